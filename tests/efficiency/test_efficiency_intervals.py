"""Bootstrap intervals over rounds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from kdbench.efficiency.intervals import median_interval, rounds_interval
from kdbench.efficiency.rounds import Rounds


def test_it_is_the_ordinary_bootstrap_of_the_median() -> None:
    values = np.random.default_rng(3).lognormal(size=41)
    low, high = median_interval(values)
    expected = stats.bootstrap(
        (values,), np.median, n_resamples=4000, method="percentile", random_state=1
    ).confidence_interval
    assert low == pytest.approx(expected.low, rel=0.05)
    assert high == pytest.approx(expected.high, rel=0.05)


def test_calls_of_one_round_are_not_independent() -> None:
    generator = np.random.default_rng(0)

    def interval(drift: float) -> tuple[float, float]:
        calls = generator.normal(10.0, drift, size=(20, 1)) + generator.normal(0.0, 0.01, size=(20, 50))
        samples = pd.DataFrame({"model": "a", "round": np.repeat(np.arange(20), 50), "ms": calls.ravel()})
        return Rounds.of(samples, "a", None).latency().interval

    low, high = interval(1.0)
    # A thousand independent calls would give an interval of about 0.16; there are twenty rounds.
    assert high - low > 0.5
    low, high = interval(0.0)
    assert high - low < 0.01
    assert low <= 10.01 and high >= 9.99


@pytest.mark.parametrize("beside", [False, True])
def test_the_interval_covers_the_figure_about_as_often_as_it_says(beside: bool) -> None:
    generator = np.random.default_rng(1)
    covered = {"latency": 0, "speedup": 0}
    for _ in range(60):
        pace = generator.lognormal(0.0, 0.1, size=25)
        own, reference = (pace * middle * generator.lognormal(0.0, 0.2, size=25) for middle in (2.0, 6.0))
        rounds = Rounds(pd.DataFrame(), own, reference if beside else None, np.empty(0), False)
        low, high = rounds.latency().interval
        covered["latency"] += low <= 2.0 <= high
        low, high = rounds.speedup().interval if beside else (0, 9)
        covered["speedup"] += low <= 3.0 <= high
    # Under 95 % coverage fewer than 50 of 60 have a probability of 4 in 10,000.
    assert min(covered.values()) >= 50


def test_the_same_values_give_the_same_interval() -> None:
    values = np.random.default_rng(2).lognormal(size=15)
    assert median_interval(values) == median_interval(values)


def test_fewer_than_eleven_rounds_have_no_interval() -> None:
    assert median_interval(np.ones(10)) is None
    assert median_interval(np.full(11, 2.0)) == (2.0, 2.0)


def test_a_second_stratum_is_drawn_by_itself() -> None:
    sizes: list[tuple[int, ...]] = []

    def statistic(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        sizes.append((*first.shape, *second.shape))
        return np.median(first, axis=1) + second.max(axis=1)

    assert rounds_interval(statistic, np.ones(11), np.full(3, 5.0)) == (6.0, 6.0)
    assert sizes == [(1000, 11, 1000, 3)]
