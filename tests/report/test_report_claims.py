"""The share of the gap that methods close, and what is said of examples that change for good."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kdbench.analysis.pie import Pie, RunPie
from kdbench.analysis.summary import summarise
from kdbench.report.claims import difference_table
from kdbench.report.content import gather
from kdbench.report.renderers.markdown import as_document
from kdbench.report.sections import exemplars


def test_the_gap_that_a_method_closes_is_its_share_by_seed(synthetic_run: Path) -> None:
    summary = summarise(synthetic_run)
    table = difference_table(summary)
    assert [heading.text for heading in table.headings if heading.key == "gap"] == ["gap closed (%)"]
    teacher = summary.teachers[0].mean("top1")
    rows = {(row.student, row.method): row.values["top1"] for row in summary.students}
    told = 0
    for line in table.as_rows():
        ours = rows[line["student"], line["method"]]
        plain = rows[line["student"], "scratch"]
        if line["gap_closed"] is not None:
            assert teacher is not None
            shares = [(ours[seed] - plain[seed]) / (teacher - plain[seed]) for seed in ours]
            assert line["gap_closed"] == pytest.approx(sum(shares) / len(shares))
            told += 1
    assert told
    assert any(text.startswith("'Gap closed' is (method − scratch)") for text in table.legend)


def test_no_gap_is_told_of_another_baseline(synthetic_run: Path) -> None:
    table = difference_table(summarise(synthetic_run), baseline="fitnet")
    assert all(heading.key != "gap" for heading in table.headings)


def test_exemplars_are_told_where_they_are_defined(
    synthetic_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = RunPie(("t0", "t1", "t2"), "mlp_64", "kd", 9, Pie(0.032, 0.61, 0.951, 0.401, 0.93))
    lacking = replace(known, method="fitnet", pie=None, reason="too few")
    monkeypatch.setattr(exemplars, "pies_of_run", lambda run: [known, lacking])
    content = gather(summarise(synthetic_run))
    examples = summarise(synthetic_run).test_size
    assert content.part("exemplars").blocks[0].texts[1] == (
        f"mlp_64 by kd: 3.2 % of {examples:,} test examples are PIE; right on them are 61.0 % (teachers) and "
        "40.1 % (students), on the others 95.1 % and 93.0 %, n = 3 teachers and 9 students"
    )
    assert ("too few", "PIE of mlp_64 by fitnet") in content.part("nulls").blocks[0].pairs
    assert "## Examples that change for good" in as_document(content)


def test_a_run_with_one_teacher_says_why_it_has_no_exemplars(write_run: Callable[..., Path]) -> None:
    content = gather(summarise(write_run()))
    assert content.part("exemplars") is None
    reason = "a population needs 3 models that differ in their training: there is 1 teacher"
    assert content.part("nulls").blocks[0].pairs[-1] == (reason, "PIE of every row")
