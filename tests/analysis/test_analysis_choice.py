"""What is picked of small runs whose best and cheapest rows are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from kdbench.analysis.choice import Limit, choose
from kdbench.analysis.summary import Summary, summarise
from kdbench.errors import UserError
from tests.report.tiny_run import COSTS, LATENCY, MACS, PARAMS, make_record, write_run

Rows = Mapping[tuple[str, str], Sequence[float | None]]
ROWS: Rows = {
    ("cnn", "scratch"): (0.90, 0.91, 0.92),
    ("cnn", "kd"): (0.93, 0.94, 0.95),
    ("mlp", "scratch"): (0.80, 0.82, 0.84),
    ("mlp", "kd"): (0.92, 0.945, 0.93),
}


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Summary]:
    """A function that writes a run of one teacher and returns its rows."""
    numbers = count()

    def write(rows: Rows = ROWS, costs: Mapping[str, Mapping[str, float | None]] = COSTS) -> Summary:
        records = [make_record("teacher", "big", None, None, 0, "top1", 0.96, costs)]
        for (student, method), values in rows.items():
            for seed, value in enumerate(values):
                records.append(
                    make_record("student", "big", student, method, seed, "top1", value, costs)
                    | {"control_of": "kd" if "random" in method else None}
                )
        path = tmp_path / str(next(numbers))
        write_run(path, records, 0, 1_000)
        return summarise(path)

    return write


def at_most(column: str, value: float) -> Limit:
    return Limit(column, "max", value)


def at_least(column: str, value: float) -> Limit:
    return Limit(column, "min", value)


def test_the_best_of_those_within_the_limits(run: Callable[..., Summary]) -> None:
    summary = run()
    assert choose(summary).row.key == ("big", "cnn", "kd")
    # The multilayer perceptron is twice as fast and has more parameters.
    assert choose(summary, [at_most(LATENCY, 0.1)]).row.key == ("big", "mlp", "kd")
    assert choose(summary, [at_most(PARAMS, 5_000)]).row.key == ("big", "cnn", "kd")
    picked = choose(summary, [at_most(LATENCY, 0.2), at_least("top1", 0.9)])
    assert [row.key[1:] for row in picked.fitting] == [("cnn", "kd"), ("mlp", "kd"), ("cnn", "scratch")]
    assert picked.judged == 4 and picked.runner_up.key == ("big", "mlp", "kd")


def test_by_a_cost_the_lowest_is_the_best(run: Callable[..., Summary]) -> None:
    assert choose(run(), [at_least("top1", 0.9)], by=MACS).row.key == ("big", "mlp", "kd")


def test_the_runner_up_is_compared_by_seeds_as_scipy_does(run: Callable[..., Summary]) -> None:
    picked = choose(run())
    rival = picked.against_runner_up
    ours, theirs = ROWS["cnn", "kd"], ROWS["mlp", "kd"]
    assert rival.p == pytest.approx(stats.ttest_rel(ours, theirs).pvalue)
    assert rival.difference == pytest.approx(sum(ours) / 3 - sum(theirs) / 3)
    assert rival.verdict == "no difference shown"
    far = choose(run(ROWS | {("mlp", "kd"): (0.60, 0.61, 0.625)}), [at_least("top1", 0.5)])
    assert far.runner_up.key == ("big", "cnn", "scratch")
    assert picked.against_teacher.difference == pytest.approx(0.94 - 0.96)


def test_the_cheapest_within_a_loss_says_how_sure_that_is(run: Callable[..., Summary]) -> None:
    summary = run()
    # By mean it loses 0.8 points; the interval over three seeds reaches to 4 points.
    wide = choose(summary, within=0.01)
    assert (wide.row.key, wide.cost, wide.sureness) == (("big", "mlp", "kd"), LATENCY, "not excluded")
    loss = wide.loss
    assert loss.difference == pytest.approx(-0.025 / 3) and -loss.low > 0.01
    sure = choose(summary, within=0.05)
    assert (sure.row.key, sure.sureness) == (("big", "mlp", "kd"), "shown")
    assert sure.runner_up.key == ("big", "cnn", "kd"), "the best itself"
    none = choose(summary, within=0.005)
    assert (none.row.key, none.loss, none.sureness) == (("big", "cnn", "kd"), None, None)
    # Cheap goes by what is limited.
    assert choose(summary, [at_most(PARAMS, 1e6)], within=0.05).row.key == ("big", "cnn", "kd")


def test_one_seed_is_not_tested(run: Callable[..., Summary]) -> None:
    picked = choose(run({key: values[:1] for key, values in ROWS.items()}), within=0.02)
    assert (picked.row.key, picked.sureness) == (("big", "mlp", "kd"), "not tested")
    assert picked.against_runner_up.reason.startswith("one seed in common")


def test_the_nearest_miss_is_told(run: Callable[..., Summary]) -> None:
    picked = choose(run(), [at_most(LATENCY, 0.15), at_least("top1", 0.939)])
    assert picked.row is None and picked.fitting == ()
    # It misses the accuracy by 0.8 %, the other the latency by a third.
    assert picked.nearest.key == ("big", "mlp", "kd")
    (miss,) = picked.misses
    assert miss.limit.column == "top1" and miss.size == pytest.approx((0.939 - 2.795 / 3) / 0.939)


def test_what_is_not_known_keeps_within_no_limit(run: Callable[..., Summary]) -> None:
    costs = COSTS | {"mlp": COSTS["mlp"] | {LATENCY: None}, "cnn": COSTS["cnn"] | {"macs_uncounted": 2}}
    picked = choose(run(costs=costs), [at_most(LATENCY, 5.0)])
    assert {row.student for row in picked.fitting} == {"cnn"}
    bound = choose(run(costs=costs), [at_most(MACS, 1e9), at_most(LATENCY, 5.0)])
    assert bound.row is None
    assert {miss.reason for miss in bound.misses} <= {"only a lower bound is known", "not recorded"}


def test_controls_are_no_choice(run: Callable[..., Summary]) -> None:
    summary = run(ROWS | {("cnn", "kd (random teacher)"): (0.99, 0.99, 0.99)})
    assert choose(summary).row.key == ("big", "cnn", "kd")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"by": "top"}, "unknown metric 'top'. Did you mean 'top1'"),
        ({"limits": [at_most("latency", 1)]}, "unknown metric 'latency'. Did you mean"),
        ({"by": "both_right"}, "no both_right is better than another"),
        ({"limits": [at_most(MACS, float("nan"))]}, "a limit must be a number"),
        ({"within": -1.0}, "--within is -1.0"),
        ({"within": float("inf")}, "--within is inf"),
    ],
)
def test_what_cannot_be_asked_for_is_one_line(
    run: Callable[..., Summary], arguments: dict[str, object], problem: str
) -> None:
    with pytest.raises(UserError, match=problem):
        choose(run(), **arguments)


def test_a_run_without_a_finished_student_is_one_line(run: Callable[..., Summary]) -> None:
    with pytest.raises(UserError, match="has no finished student with a value of top1"):
        choose(run({("cnn", "kd"): (None,)}))


@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9), st.sampled_from(["max", "min"]))
def test_an_excess_is_zero_where_a_limit_is_kept(limit: float, value: float, side: str) -> None:
    kept = (value <= limit if side == "max" else value >= limit) or math.isclose(value, limit, rel_tol=1e-9)
    assert (Limit("macs", side, limit).excess(value) == 0) == kept
