"""Latency and speed-up on one footing, on simulated machines: steady, drifting, noisy, overloaded."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdbench.efficiency.latency import interleave
from kdbench.efficiency.protocol import Protocol
from kdbench.efficiency.samples import Figures, summarise
from kdbench.place import Place

TRUE_MS = {"teacher": 6.0, "student": 2.0}
PLACE = Place("cpu", 4)
P50, SPEEDUP = "latency_cpu_b4_p50_ms", "speedup_cpu_b4"


def simulated(pace: Callable[[str, int], float], rounds: int = 15) -> pd.DataFrame:
    """The samples of a machine on which a call takes its true time × the pace of its model in its round."""
    called: list[str] = []
    counter = itertools.count()
    now = 0

    def next_round() -> None:
        nonlocal now
        now = next(counter)

    def timer(call: Callable[[], object]) -> float:
        call()
        return TRUE_MS[called[-1]] * pace(called[-1], now)

    timing = interleave(
        {label: lambda label=label: called.append(label) for label in TRUE_MS},
        TRUE_MS,
        timer,
        Protocol(rounds=rounds, min_samples=rounds, min_seconds=0, max_seconds=1.0),
        ["teacher"],
        on_round=next_round,
    )
    rows = [(turn.subject, PLACE.name, turn.round, ms) for turn in timing.turns for ms in turn.ms]
    return pd.DataFrame(rows, columns=["model", "place", "round", "ms"])


def figures(samples: pd.DataFrame) -> dict[str, Figures]:
    return {label: summarise(samples, label, "teacher", PLACE) for label in TRUE_MS}


@pytest.mark.usefixtures("limits")
def test_a_steady_machine_gives_the_true_times() -> None:
    found = figures(simulated(lambda label, round_: 1.0))
    assert found["teacher"].values[P50] == 6.0
    assert found["student"].values[P50] == 2.0
    assert found["student"].values[SPEEDUP] == 3.0
    assert found["student"].intervals == {P50: (2.0, 2.0), SPEEDUP: (3.0, 3.0)}


@pytest.mark.usefixtures("limits")
def test_a_drift_that_all_models_share_cancels_exactly() -> None:
    # The middle half of the rounds is at 1 to 1.25 of the machine's pace, the others anywhere.
    paces = [1.0, 1.0, 1.25, 1.25, 1.25, 0.5, 4.0]
    found = figures(simulated(lambda label, round_: paces[round_ % 7], rounds=28))
    assert found["student"].values[SPEEDUP] == 3.0
    assert found["teacher"].values[P50] == 3 * found["student"].values[P50]
    assert found["student"].intervals[SPEEDUP] == (3.0, 3.0)


@pytest.mark.usefixtures("limits")
def test_where_the_pace_itself_is_anything_there_is_a_speed_up_and_no_latency() -> None:
    paces = [1.0, 2.0, 4.0, 0.5, 0.25, 8.0]
    found = figures(simulated(lambda label, round_: paces[round_ % 6], rounds=30))
    assert found["student"].values[SPEEDUP] == 3.0
    for label, what in (("teacher", ""), ("student", " of the reference")):
        assert found[label].values[P50] is None
        assert found[label].values["throughput_cpu_b4_per_s"] is None
        reason = found[label].reasons[P50]
        assert reason.startswith(f"the machine was too noisy: the middle half of the round medians{what} ")
        assert P50 not in found[label].intervals


@pytest.mark.usefixtures("limits")
@pytest.mark.parametrize("seed", range(5))
def test_noise_that_drowns_the_figure_gives_a_dash_with_its_reason(seed: int) -> None:
    generator = np.random.default_rng(seed)
    found = figures(simulated(lambda label, round_: generator.lognormal(0, 1.5)))["student"]
    assert set(found.values.values()) == {None}
    assert found.intervals == {}
    assert all("the machine was too noisy: " in found.reasons[name] for name in (P50, SPEEDUP))


@pytest.mark.usefixtures("limits")
@pytest.mark.parametrize("seed", range(5))
def test_the_noise_of_an_ordinary_shared_machine_leaves_the_figures(seed: int) -> None:
    # A slow pace of ±20 % for all, ±10 % for each call, and one call in twenty five times as long.
    generator = np.random.default_rng(seed)
    drift = 1 + 0.2 * np.sin(np.arange(40))

    def pace(label: str, round_: int) -> float:
        late = 5.0 if generator.random() < 0.05 else 1.0
        return float(drift[round_ % 40] * generator.lognormal(0, 0.1) * late)

    found = figures(simulated(pace, rounds=30))
    assert found["student"].values[SPEEDUP] == pytest.approx(3.0, rel=0.15)
    assert found["student"].values[P50] == pytest.approx(2.0, rel=0.25)


@pytest.mark.usefixtures("limits")
def test_a_student_that_loses_the_processor_in_most_calls_is_not_called_faster() -> None:
    """Most of its calls wait for others: formerly 20 ms beside a teacher's 6 ms was called faster."""
    generator = np.random.default_rng(0)

    def pace(label: str, round_: int) -> float:
        return 10.0 if label == "student" and generator.random() < 0.6 else 1.0

    found = figures(simulated(pace, rounds=20))
    assert found["teacher"].values[P50] == 6.0
    assert (found["student"].values[P50], found["student"].values[SPEEDUP]) == (None, None)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rounds=st.integers(11, 30), missing=st.integers(0, 12))
def test_the_figures_of_a_row_agree_whatever_was_timed(seed: int, rounds: int, missing: int) -> None:
    generator = np.random.default_rng(seed)
    # The student drops out early, and turns hold from 1 to 30 calls.
    turns = {"teacher": rounds + missing, "student": rounds}
    rows = [
        (label, PLACE.name, round_, ms)
        for label, count in turns.items()
        for round_ in range(count)
        for ms in generator.lognormal(sigma=2, size=generator.integers(1, 31))
    ]
    found = figures(pd.DataFrame(rows, columns=["model", "place", "round", "ms"]))
    teacher, student = found["teacher"].values, found["student"].values
    assert student[SPEEDUP] == pytest.approx(teacher[P50] / student[P50], rel=1e-12)
    assert teacher[SPEEDUP] == 1
    for label, values in (("teacher", teacher), ("student", student)):
        assert values["throughput_cpu_b4_per_s"] == pytest.approx(4000 / values[P50], rel=1e-12)
        tail = [values[P50], *(values[f"latency_cpu_b4_p{percent}_ms"] for percent in (90, 99))]
        tail = [value for value in tail if value is not None]
        assert tail == sorted(tail)
        for name, (low, high) in found[label].intervals.items():
            assert low <= values[name] * (1 + 1e-9)
            assert high >= values[name] * (1 - 1e-9)


def test_percentiles_are_of_calls_on_the_pace_of_their_round() -> None:
    # Odd rounds run at half the pace; within a round the student's calls are 1 to 99 % of its slowest.
    calls = np.arange(1, 100) / 99
    rows = [
        (label, PLACE.name, round_, ms * (1 + round_ % 2))
        for round_ in range(21)
        for label, taken in (("teacher", [6.0]), ("student", calls))
        for ms in taken
    ]
    values = summarise(
        pd.DataFrame(rows, columns=["model", "place", "round", "ms"]), "student", "teacher", PLACE
    ).values
    for percent, expected in ((50, 50 / 99), (90, 90 / 99), (99, 99 / 99)):
        assert values[f"latency_cpu_b4_p{percent}_ms"] == pytest.approx(expected)
