"""What the report says of controls, word for word."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from kdbench.analysis.comparison import compare_methods
from kdbench.analysis.standings import standings
from kdbench.analysis.summary import Summary, summarise
from kdbench.analysis.transfer import EXCESS
from kdbench.column import Column
from kdbench.report.blocks import Points
from kdbench.report.claims import difference_table
from kdbench.report.content import gather
from kdbench.report.fidelity import control_claims, control_table
from kdbench.report.headline import main_table
from kdbench.report.renderers.html import as_page
from kdbench.report.renderers.markdown import as_document

Excesses = Mapping[str, tuple[float, ...]]


@pytest.fixture
def controlled(write_run: Callable[..., Path]) -> Callable[[Excesses], Summary]:
    """A function that gives a synthetic run an independent teacher, with given excesses by method."""

    def make(excesses: Excesses) -> Summary:
        path = write_run(students=("mlp_64",), methods=tuple(excesses), seeds=(0, 1, 2))
        columns = json.loads((path / "columns.json").read_text())
        for name in ("agreement_independent", EXCESS):
            columns.append(Column(name, name, "fidelity", "higher").as_json())
        (path / "columns.json").write_text(json.dumps(columns))
        for file in path.glob("*/*/record.json"):
            record = json.loads(file.read_text())
            if record["role"] == "teacher":
                record["metrics"] |= {"agreement_independent": 0.9315, EXCESS: None}
                record["reasons"][EXCESS] = "it is the teacher"
            else:
                record["metrics"][EXCESS] = excesses[record["method"]][record["seed"]]
                record["control_of"] = "fitnet" if "random" in record["method"] else None
            file.write_text(json.dumps(record))
        return summarise(path)

    return make


def test_each_method_is_told_apart_from_accuracy_and_from_scratch(
    controlled: Callable[[Excesses], Summary],
) -> None:
    summary = controlled(
        {
            "scratch": (0.001, -0.004, 0.004),
            "fitnet": (0.052, 0.047, 0.060),
            "kd(temperature=1)": (-0.052, -0.047, -0.060),
        }
    )
    claims = control_claims(summary)
    assert claims[0] == "Two trainings of cnn_64, the teacher and the independent one, agree on 93.2 %."
    assert claims[1].startswith("scratch has learned from neither")
    assert claims[2].startswith(
        "mlp_64: scratch: no excess of agreement over the independent teacher shown ("
    )
    assert claims[2].endswith("n = 3, p = 0.90 (Holm))")
    assert claims[3].startswith(
        "mlp_64: fitnet agrees more with its teacher than with the independent one, "
        "+5.3 points [+3.7, +6.9], n = 3, p = 0.015 (Holm); beyond the excess of scratch, +5.3 points ["
    )
    assert "agrees less with its teacher than with the independent one, −5.3 points" in claims[4]
    assert "; below the excess of scratch, −5.3 points" in claims[4]
    assert len(claims) == 5


def test_a_method_is_compared_with_its_random_teacher(controlled: Callable[[Excesses], Summary]) -> None:
    excesses = dict.fromkeys(("scratch", "fitnet", "fitnet (random teacher)"), (0.01, 0.02, 0.0))
    claims = control_claims(controlled(excesses))
    assert claims[-3].startswith(
        "With a random teacher, a method learns from its teacher's logits in an order"
    )
    assert claims[-2].startswith("mlp_64: fitnet (random teacher) against scratch: ")
    assert claims[-1].startswith("mlp_64: fitnet against fitnet (random teacher): ")


def test_random_teachers_are_a_family_of_their_own(controlled: Callable[[Excesses], Summary]) -> None:
    with_control = controlled(
        dict.fromkeys(("scratch", "fitnet", "kd", "fitnet (random teacher)"), (0.01, 0.02, 0.0))
    )
    methods, repeats = (compare_methods(with_control, repeats=repeats) for repeats in (False, True))
    assert [found.method for found in methods] == ["fitnet", "kd"]
    assert [found.method for found in repeats] == ["fitnet (random teacher)"]
    assert repeats[0].p_holm == repeats[0].p  # the only one of its family
    apart = control_table(with_control)
    assert apart is not None
    assert [row["method"] for row in apart.as_rows()] == ["fitnet (random teacher)"]
    assert apart.as_rows()[0]["p_holm"] == repeats[0].p
    assert any("a family of their own" in text for text in apart.legend)
    assert "(random teacher)" not in str(main_table(with_control))
    assert "(random teacher)" not in str(difference_table(with_control).as_rows())
    assert set(standings([with_control]).ranking.methods) == {"scratch", "fitnet", "kd"}


def test_both_forms_of_the_report_hold_the_claims(controlled: Callable[[Excesses], Summary]) -> None:
    summary = controlled({"scratch": (0.001, -0.004, 0.004), "fitnet": (0.052, 0.047, 0.060)})
    content = gather(summary)
    assert Points(tuple(control_claims(summary))) in content.part("controls").blocks
    for text in (as_document(content), as_page(content)):
        assert "Controls" in text and "agrees more with its teacher than with the independent one" in text


def test_a_run_without_controls_says_nothing_of_them(synthetic_run: Path) -> None:
    summary = summarise(synthetic_run)
    assert control_claims(summary) == []
    assert "## Controls" not in as_document(gather(summary))
