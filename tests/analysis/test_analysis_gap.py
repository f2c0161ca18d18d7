"""The gap that a method closes: its quotient, and where chance leaves no denominator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kdbench.analysis.gap import Gap, gaps_recovered
from kdbench.analysis.summary import summarise

Run = Callable[..., list[Gap]]


@pytest.fixture
def gaps(write_records: Callable[..., Any], record: Callable[..., dict[str, Any]]) -> Run:
    """A function: the teacher's top-1 and method -> seed -> top-1 of one student, to its gaps."""

    def make(teacher: float | None, methods: dict[str, dict[int, float]]) -> list[Gap]:
        reasons = {} if teacher is not None else {"top1": "by design"}
        records = [record("teacher", None, None, 0, metrics={"top1": teacher}, reasons=reasons)]
        records += [
            record("student", "small", method, seed, metrics={"top1": value})
            for method, values in methods.items()
            for seed, value in values.items()
        ]
        return gaps_recovered(summarise(write_records(*records)))

    return make


def test_each_seed_is_set_against_its_own_control(gaps: Run) -> None:
    """Of gaps of 0.4 and 0.5 a half and a fifth are closed; the mean gain over the mean gap would be ⅓."""
    (gap,) = gaps(0.9, {"scratch": {0: 0.5, 1: 0.4}, "kd": {0: 0.7, 1: 0.5}})
    assert (gap.teacher, gap.student, gap.method) == ("big", "small", "kd")
    assert gap.values == pytest.approx({0: 0.5, 1: 0.2})
    assert gap.recovered.mean == pytest.approx(0.35)
    assert gap.recovered.n == 2 and gap.recovered.low is not None


def test_it_may_exceed_one_and_fall_under_zero(gaps: Run) -> None:
    better, worse = gaps(0.8, {"scratch": {0: 0.4}, "kd": {0: 0.9}, "at": {0: 0.3}})
    assert better.recovered.mean == pytest.approx(1.25)
    assert worse.recovered.mean == pytest.approx(-0.25)
    assert better.recovered.low is None, "one seed has no interval"


@pytest.mark.parametrize("scratch", [0.85, 0.9, 0.95])
def test_a_gap_that_could_be_chance_has_no_quotient(gaps: Run, scratch: float) -> None:
    """A hundred test examples tell 0.90 from 0.85 by no means, and a teacher under its student has no gap."""
    (gap,) = gaps(0.9, {"scratch": {0: 0.3, 1: scratch}, "kd": {0: 0.4, 1: 0.9}})
    assert gap.recovered.mean is None and gap.values == {}
    assert gap.recovered.reason is not None
    assert gap.recovered.reason.startswith(f"with seed 1 the teacher is {100 * (0.9 - scratch):+.2f} points")
    assert gap.recovered.reason.endswith("of 100 test examples")


@pytest.mark.parametrize(
    ("teacher", "methods", "reason"),
    [
        (None, {"scratch": {0: 0.5}, "kd": {0: 0.6}}, "teacher big has no top1"),
        (0.9, {"kd": {0: 0.6}}, "the run holds no scratch of small"),
        (
            0.9,
            {"scratch": {1: 0.5}, "kd": {0: 0.6}},
            "the method and scratch have no finished seed in common",
        ),
    ],
)
def test_without_what_it_needs(gaps: Run, teacher: float | None, methods: dict, reason: str) -> None:
    (gap,) = gaps(teacher, methods)
    assert gap.recovered.reason == reason
