"""Bootstrap intervals over rounds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from kdbench.efficiency.intervals import median_interval, ratio_interval


def rounds_of(values: np.ndarray) -> pd.DataFrame:
    """A row of ``values`` is a round."""
    rounds = np.repeat(np.arange(len(values)), values.shape[1])
    return pd.DataFrame({"round": rounds, "ms": values.ravel()}).sample(frac=1, random_state=0)


def test_with_one_call_a_round_it_is_the_ordinary_bootstrap_of_the_median() -> None:
    values = np.random.default_rng(3).lognormal(size=41)
    low, high = median_interval(rounds_of(values[:, None]))
    # An odd number of values: scipy's median and a weighted one agree, draw by draw.
    expected = stats.bootstrap(
        (values[np.argsort(values)],), np.median, n_resamples=4000, method="percentile", random_state=1
    ).confidence_interval
    assert low == pytest.approx(expected.low, rel=0.05)
    assert high == pytest.approx(expected.high, rel=0.05)


def test_calls_of_one_round_are_not_independent() -> None:
    generator = np.random.default_rng(0)
    drifting = generator.normal(10.0, 1.0, size=(20, 1)) + generator.normal(0.0, 0.01, size=(20, 50))
    low, high = median_interval(rounds_of(drifting))
    # A thousand independent calls would give an interval of about 0.16; there are twenty rounds.
    assert high - low > 0.5
    steady = 10.0 + generator.normal(0.0, 0.01, size=(20, 50))
    low, high = median_interval(rounds_of(steady))
    assert high - low < 0.01
    assert low <= np.median(steady) <= high


def test_the_interval_covers_the_median_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(60):
        low, high = ratio_interval(generator.lognormal(0.5, 0.2, size=25))
        covered += low <= np.exp(0.5) <= high
    # Under 95 % coverage fewer than 50 of 60 have a probability of 4 in 10,000.
    assert covered >= 50


def test_the_same_samples_give_the_same_interval() -> None:
    values = rounds_of(np.random.default_rng(2).lognormal(size=(15, 4)))
    assert median_interval(values) == median_interval(values)


def test_fewer_than_eleven_rounds_have_no_interval() -> None:
    assert median_interval(rounds_of(np.ones((10, 5)))) is None
    assert median_interval(rounds_of(np.full((11, 5), 2.0))) == (2.0, 2.0)
    assert ratio_interval(np.ones(10)) is None
