from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from kdbench.analysis.summary import summarise
from kdbench.errors import UserError
from kdbench.report import compare, render
from kdbench.report.answer import answer


def printed(path, width=100, **arguments) -> str:
    console = Console(width=width, file=io.StringIO())
    render(path, console, **arguments)
    return console.file.getvalue()


def test_rows_are_what_json_can_hold(synthetic_run):
    rows = compare(synthetic_run)
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    assert len(rows) == 1 + 4 * 4
    kd = rows[3]
    assert (kd["role"], kd["student"], kd["method"], kd["n"]) == ("student", "mlp_64", "kd(temperature=4)", 3)
    assert kd["top1_low"] < kd["top1"] < kd["top1_high"]
    assert kd["difference_low"] < kd["difference"] < kd["difference_high"]
    assert kd["p"] < kd["p_holm"] < 0.05
    assert (kd["verdict"], kd["pareto"]) == ("better", True)


def test_controls_come_last_and_apart(write_run):
    methods = ("scratch", "fitnet", "fitnet (random teacher)", "kd(temperature=4)")
    path = write_run(students=("mlp_64",), methods=methods)
    for file in path.glob("cells/*/record.json"):
        record = json.loads(file.read_text())
        if "random" in record["method"]:
            record["control_of"] = "fitnet"
            # Better and cheaper than any result: no front and no answer may name it.
            record["metrics"]["top1"] = 0.999 - 0.0001 * record["seed"]
            file.write_text(json.dumps(record))
    rows = compare(path)
    assert [(row["method"], row["control_of"]) for row in rows] == [
        (None, None),
        ("scratch", None),
        ("fitnet", None),
        ("kd(temperature=4)", None),
        ("fitnet (random teacher)", "fitnet"),
    ]
    assert rows[3]["pareto"] is True
    assert rows[4]["pareto"] is None
    assert rows[4]["top1"] == pytest.approx(0.9989)
    assert {key for row in rows for key in row} == set(rows[0])
    results, controls = printed(path).split("Controls: Top-1 accuracy with a random teacher")
    assert "random teacher" not in results
    assert "99.9 ± 0.0" in controls
    assert "random teacher" not in controls.split("In short")[1]


def test_the_last_lines_are_the_answer(synthetic_run):
    text = printed(synthetic_run)
    last = " ".join(text.split("\nIn short\n")[1].split())
    assert last == " ".join(answer(summarise(synthetic_run)))
    assert last.startswith("By its mean, the most accurate of 16 rows is cnn_8 by kd(temperature=4): ")
    nll = printed(synthetic_run, metric="nll", baseline="fitnet").split("\nIn short\n")[1]
    assert "the best Negative log-likelihood of 16 rows" in nll
    assert "Against fitnet" in nll


def test_metric_and_baseline_can_be_chosen(synthetic_run):
    rows = compare(synthetic_run, metric="nll", baseline="fitnet")
    verdicts = {row["method"]: row["verdict"] for row in rows if row["student"] == "cnn_8"}
    assert verdicts["fitnet"] is None
    assert verdicts["kd(temperature=4)"] == "better"


def test_what_does_not_exist_is_refused(synthetic_run, tmp_path):
    with pytest.raises(UserError, match="no run directory"):
        compare(tmp_path / "nowhere")
    with pytest.raises(UserError, match="unknown metric"):
        compare(synthetic_run, metric="accuracy")


def test_the_terminal_shows_table_claims_and_cautions(synthetic_run):
    text = " ".join(printed(synthetic_run).split())
    assert (
        "mlp_64: kd(temperature=4) against scratch: better, +1.3 points [+0.9, +1.7], n = 3 seeds × 360 "
        "examples, p = 0.041 (Holm); could show 1.6" in text
    )
    assert "cnn_4: kd(temperature=4) against scratch: no difference shown (+1.2 points" in text
    assert "cnn_64 is a single trained teacher" in text
    assert "360 test examples by themselves leave ±2.5 points" in text
    # t(0.975, 2)/√3 = 2.48, and Holm's first step t(1 − 0.025/12, 2)/√3 = 8.9
    assert "2.5 times the standard deviation" in text
    assert "12 comparisons here must exceed 8.9 times" in text
    assert "tested at 0.05/12, the first step of Holm's correction" in text
    assert "Nothing is said of other test examples (McNemar, bootstrap): the run directory holds no" in text
    assert "failed: gru_32, fitnet, seed 2: loss is not finite at epoch 3 (nan)" in text


@pytest.mark.parametrize("width", [80, 100, 140])
def test_no_line_is_wider_than_the_terminal(synthetic_run, width):
    assert max(map(len, printed(synthetic_run, width).splitlines())) <= width


def test_one_seed_is_told_once(write_run):
    text = printed(write_run(seeds=(0,)))
    assert "12 comparisons not tested: one seed in common" in text
    assert "any difference may be chance" in " ".join(text.split())


def test_several_trained_teachers_need_no_caution(write_run):
    text = printed(write_run(teacher_seeds=(0, 1, 2)))
    assert "single trained teacher" not in text


def test_a_run_in_which_everything_failed_is_still_shown(write_run):
    text = printed(write_run(everything_fails=True))
    assert "No student finished" in text
    assert "and 39 more failed or skipped" in text
    assert "nan " not in text.replace("(nan)", "")


def test_many_claims_are_cut_to_those_that_show_something(write_run):
    methods = ("scratch", "kd(temperature=4)", *(f"m{i}" for i in range(14)))
    text = printed(write_run(methods=methods, failing=frozenset()))
    claims = [line for line in text.splitlines() if "against scratch" in line]
    assert len(claims) < 60
    assert "No difference shown in" in text
