"""The sentences that a report opens with, on small runs whose answers are known."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from kdbench.analysis.summary import summarise
from kdbench.bounds import UNCOUNTED
from kdbench.report.answer import answer
from tests.report.tiny_run import COSTS, LATENCY, MACS, PARAMS, make_record
from tests.report.tiny_run import write_run as write_tiny

# (student, method) -> accuracy by seed; None is a failed cell.
Rows = Mapping[tuple[str, str], Sequence[float | None]]
Write = Callable[..., list[str]]


@pytest.fixture
def told(tmp_path: Path) -> Write:
    """A function that writes a run of one teacher and returns what is said of it."""

    def tell(
        rows: Rows,
        teacher: float | None = 0.95,
        costs: Mapping[str, Mapping[str, float | None]] = COSTS,
        metric: str = "top1",
        controls: Mapping[str, str] | None = None,
        not_run: int = 0,
        conditions: Mapping[str, Any] | None = None,
        test: int = 10_000,
    ) -> list[str]:
        records = [make_record("teacher", "big", None, None, 0, metric, teacher, costs)]
        for (student, method), values in rows.items():
            for seed, value in enumerate(values):
                cell = make_record("student", "big", student, method, seed, metric, value, costs)
                records.append(cell | {"control_of": (controls or {}).get(method)})
        write_tiny(tmp_path, records, not_run, test)
        if conditions is not None:
            content = {"metrics": {}, "reasons": {}, "conditions": conditions}
            path = tmp_path / "costs" / "c" / "cost.json"
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps(content))
        sentences = answer(summarise(tmp_path), metric)
        assert 2 <= len(sentences) <= 5
        assert all(text.endswith(".") for text in sentences)
        assert not re.search(r"\b(nan|inf|None)\b", " ".join(sentences))
        return sentences

    return tell


def interval(differences: Sequence[float]) -> str:
    """Return the 95 % t interval in points, as scipy gives it."""
    low, high = stats.ttest_1samp(differences, 0.0).confidence_interval(0.95)
    return f"[{100 * low:+.2f}, {100 * high:+.2f}]".replace("-", "−")


CNN_SCRATCH = (0.90, 0.901, 0.899)
CNN_KD = (0.92, 0.9211, 0.919)
MLP_SCRATCH = (0.85, 0.852, 0.848)
MLP_KD = (0.8501, 0.8512, 0.8484)
FOUR: Rows = {
    ("cnn", "scratch"): CNN_SCRATCH,
    ("cnn", "kd"): CNN_KD,
    ("mlp", "scratch"): MLP_SCRATCH,
    ("mlp", "kd"): MLP_KD,
}


def test_a_win_that_is_shown_is_told_with_what_it_costs(told: Write) -> None:
    best, cheap, methods = told(FOUR)
    loss = interval([value - 0.95 for value in CNN_KD])
    assert best == (
        "By its mean, the most accurate of 4 rows is cnn by kd: 92.00 ± 0.26 %, "
        f"−3.00 points {loss} from its teacher big with 95.00 % (loss shown), "
        "10× faster (CPU, batch 1), 30× fewer MACs and 60× fewer parameters."
    )
    from_best = interval([a - b for a, b in zip(MLP_SCRATCH, CNN_KD, strict=True)])
    assert cheap == (
        "The best of the cheaper rows by latency (CPU, batch 1) is mlp by scratch: 85.00 ± 0.50 %, "
        f"−7.00 points {from_best} from it, "
        "20× faster (CPU, batch 1), 300× fewer MACs and 3.0× fewer parameters."
    )
    gain = interval([a - b for a, b in zip(CNN_KD, CNN_SCRATCH, strict=True)])
    assert methods == (
        "Against scratch (2 comparisons paired by seed, Holm): none is shown worse, 1 is shown better "
        f"(cnn by kd, +2.00 points {gain}), 1 shows no difference, which does not mean equal."
    )


def test_no_difference_shown_is_not_called_equal(told: Write) -> None:
    rows = {("cnn", "scratch"): (0.94, 0.951, 0.96), ("cnn", "kd"): (0.945, 0.95, 0.958)}
    best, methods = told(rows)
    assert "by kd: 95.10 ± 1.63 %, +0.10 points [−1.53, +1.73] from its teacher" in best
    assert "(no difference shown)" in best
    assert methods == (
        "Against scratch (1 comparison paired by seed, Holm): none is shown better or worse, 1 shows no "
        "difference, which does not mean equal."
    )


def test_one_seed_shows_nothing(told: Write) -> None:
    best, _, methods = told({key: values[:1] for key, values in FOUR.items()})
    assert best.startswith(
        "By its one seed, the most accurate of 4 rows is cnn by kd: 92.00 %, −3.00 points from"
    )
    assert "(not tested: one seed)" in best
    assert methods == (
        "Against scratch nothing could be tested (2 comparisons; one seed in common: a paired test needs at "
        "least two): any difference may be chance."
    )


def test_a_gain_over_the_teacher_is_told_where_it_is_shown(told: Write) -> None:
    best = told(FOUR, teacher=0.90)[0]
    assert "+2.00 points" in best
    assert "(gain shown)" in best


def test_a_loss_that_the_correction_does_not_show_is_not_called_no_difference(told: Write) -> None:
    losses = (0.005, 0.0039, 0.006)
    rows = {row: [0.925 - scale * loss for loss in losses] for scale, row in enumerate(FOUR, start=1)}
    best, *_ = told(rows, teacher=0.925)
    # The rows are multiples of each other and so have one p; Holm's correction takes it times 4 in each.
    p = stats.ttest_1samp(losses, 0.0).pvalue
    assert p < 0.05 < 4 * p
    assert "−0.50 points [−0.76, −0.24] from its teacher" in best
    assert "(not shown after correction for 4 rows)" in best


def test_a_cheaper_row_within_chance_is_told(told: Write) -> None:
    rows = {**FOUR, ("mlp", "kd"): (0.9185, 0.9215, 0.9195)}
    _, cheap, _ = told(rows)
    assert cheap.startswith(
        "The cheapest by latency (CPU, batch 1) that neither seeds nor test examples tell from it is mlp by "
    )
    assert "equal" not in cheap


def test_a_row_that_spreads_widely_does_not_pass_for_as_good(told: Write) -> None:
    rows = {**FOUR, ("mlp", "kd"): (0.95, 0.85, 0.80)}
    p = stats.ttest_rel(rows["mlp", "kd"], CNN_KD).pvalue
    assert p > 0.05  # its seeds alone do not tell
    _, cheap, _ = told(rows)
    assert cheap.startswith("The best of the cheaper rows")


def test_the_cheapest_is_told_apart_from_the_one_that_comes_near(told: Write) -> None:
    costs = COSTS | {"tiny": {LATENCY: 0.05, MACS: 1e4, PARAMS: 1e3}}
    rows = {**FOUR, ("tiny", "scratch"): (0.70, 0.71, 0.72)}
    _, near, cheapest, _ = told(rows, costs=costs)
    assert " is mlp by scratch: " in near
    assert cheapest.startswith("Cheapest of all is tiny by scratch: 71.00 ± 2.48 %, −24.00 points ")
    assert "40× faster (CPU, batch 1), 3,000× fewer MACs and 300× fewer parameters" in cheapest


def test_without_a_latency_cheap_goes_by_macs(told: Write) -> None:
    costs = {model: {**known, LATENCY: None} for model, known in COSTS.items()}
    best, cheap, _ = told(FOUR, costs=costs)
    assert "faster" not in best
    assert cheap.startswith("The best of the cheaper rows by MACs is mlp by scratch: ")


def test_a_lower_bound_of_macs_is_no_saving(told: Write) -> None:
    costs = {model: {**known, LATENCY: None} for model, known in COSTS.items()}
    costs["cnn"] |= {UNCOUNTED: 1}
    best, cheap, _ = told(FOUR, costs=costs)
    assert "MACs" not in best
    # By parameters, which are known of all, the cnn is the cheapest.
    assert cheap == "No student is cheaper than it by parameters."


def test_without_any_cost_nothing_is_called_cheap(told: Write) -> None:
    best, cheap, _ = told(FOUR, costs={})
    assert best.endswith("with 95.00 % (loss shown).")
    assert cheap == "No cost is known of every student: nothing is said of what is cheap."


def test_noise_while_timing_is_told(told: Write) -> None:
    noise = {"quiet": {"during": {"cpu_b1": {"noise": "a fixed piece of work varied by 44%"}}}}
    assert "by latency (CPU, batch 1; the machine was not quiet)" in told(FOUR, conditions=noise)[1]


def test_a_teacher_that_is_best_and_cheapest_is_told(told: Write) -> None:
    costs = {**COSTS, "big": {LATENCY: 0.1, MACS: 1e5, PARAMS: 5e3}}
    best, cheap, _ = told(FOUR, costs=costs)
    assert "2.0× slower (CPU, batch 1), 10× more MACs and as many parameters" in best
    assert (
        cheap == "By the means no student is better than big, and none is cheaper by latency (CPU, batch 1)."
    )


def test_the_cost_of_the_teacher_is_not_called_a_saving(told: Write) -> None:
    best, methods = told({("big", "scratch"): CNN_SCRATCH, ("big", "kd"): CNN_KD})[::2]
    assert best.endswith("at the cost of its teacher.")
    assert methods.startswith("Against scratch")


def test_failed_and_missing_cells_are_counted(told: Write) -> None:
    rows = {**FOUR, ("mlp", "kd"): (None, None, 0.851)}
    sentences = told(rows, not_run=2)
    assert (
        sentences[-1]
        == "Cells of the plan that have no part in this: 2 that failed or were skipped and 2 not run yet."
    )
    assert "1 could not be tested" in sentences[-2]


def test_a_run_without_a_finished_student_has_no_best(told: Write) -> None:
    sentences = told(dict.fromkeys(FOUR, (None, None)))
    assert sentences[0] == "No student has a value of Top-1 accuracy: there is nothing to compare."
    assert sentences[1].startswith(
        "Against scratch nothing could be tested (2 comparisons; the method has no value)"
    )
    assert "8 that failed" in sentences[2]


def test_a_failed_teacher_leaves_the_students_without_comparison(told: Write) -> None:
    best, *_ = told(FOUR, teacher=None)
    assert best.startswith("By its mean, the most accurate of 4 rows is cnn by kd: 92.00 ± 0.26 %.")


def test_a_control_with_a_random_teacher_is_never_best(told: Write) -> None:
    rows = {**FOUR, ("cnn", "kd (random teacher)"): (0.99, 0.991, 0.992)}
    sentences = told(rows, controls={"kd (random teacher)": "kd"})
    assert "random" not in " ".join(sentences)
    assert "of 4 rows is cnn by kd" in sentences[0]


def test_the_teacher_is_named_where_there_are_several(write_run: Callable[..., Path]) -> None:
    path = write_run(
        teachers=("cnn_64", "vgg_13"),
        students=("mlp_64",),
        methods=("scratch", "kd(temperature=4)"),
        epochs=1,
    )
    # Both teachers' students have the same synthetic values.
    best, methods = answer(summarise(path))
    assert "(level with mlp_64 by kd(temperature=4) (teacher vgg_13)): " in best
    assert "from its teacher cnn_64 with 98.5 %" in best
    assert "mlp_64 by kd(temperature=4) (teacher cnn_64), +1.3 points" in methods


def test_rows_of_the_same_mean_share_the_first_place(told: Write) -> None:
    rows = {("cnn", "scratch"): (0.9, 0.92), ("cnn", "kd"): (0.92, 0.9), ("mlp", "kd"): (0.91, 0.91)}
    best, cheap, *_ = told(rows)
    assert "is mlp by kd (level with cnn by scratch and cnn by kd): " in best
    assert cheap == "No student is cheaper than it by latency (CPU, batch 1)."


def test_only_scratch_has_nothing_to_be_compared_with(told: Write) -> None:
    sentences = told({("cnn", "scratch"): CNN_SCRATCH})
    assert sentences[0].startswith("The one row is cnn by scratch: ")
    assert sentences[-1] == "There is no method beside scratch to compare with it."


def test_lower_is_better_by_another_metric(told: Write) -> None:
    best, cheap, methods = told(FOUR, metric="nll")
    assert best.startswith(
        "By its mean, the best Negative log-likelihood of 4 rows is mlp by kd: 0.850 ± 0.004, −0.100 ["
    )
    assert "(gain shown)" in best
    assert cheap == "No student is cheaper than it by latency (CPU, batch 1)."
    assert "1 is shown worse (cnn by kd, +0.020 [" in methods


def test_by_a_metric_without_direction_nothing_is_best(tmp_path: Path, told: Write) -> None:
    rows = {**FOUR}
    records = [
        make_record("student", "big", s, m, i, "both_right", v, {})
        for (s, m), vs in rows.items()
        for i, v in enumerate(vs)
    ]
    write_tiny(tmp_path, records, 0, 1000)
    (methods,) = answer(summarise(tmp_path), "both_right")
    assert "none is shown lower, 1 is shown higher (cnn by kd" in methods
