from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.weightstats import DescrStatsW

from kdbench.analysis.intervals import critical_t, sampling_half_width, t_interval

SAMPLES = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=12)


@given(SAMPLES)
def test_a_t_interval_is_that_of_statsmodels(values):
    interval = t_interval(values)
    if np.ptp(values) <= 1e-9 * max(map(abs, values)):
        return
    low, high = DescrStatsW(values).tconfint_mean(alpha=0.05)
    assert interval.n == len(values)
    assert interval.mean == pytest.approx(np.mean(values), abs=1e-9)
    assert interval.sd == pytest.approx(np.std(values, ddof=1))
    assert (interval.low, interval.high) == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))


def test_three_values_by_hand():
    # 1, 2, 3: sd 1, and t(0.975, 2) = 4.3027 of every printed table.
    interval = t_interval([1.0, 2.0, 3.0])
    assert interval.half_width == pytest.approx(4.3027 / math.sqrt(3), abs=1e-4)
    assert interval.reason is None


def test_one_value_has_a_mean_and_no_interval():
    interval = t_interval([0.5])
    assert (interval.n, interval.mean) == (1, 0.5)
    assert interval.sd is interval.low is interval.high is interval.half_width is None
    assert "one seed" in interval.reason


def test_no_value_has_nothing_but_a_reason():
    interval = t_interval([])
    assert interval.n == 0
    assert interval.mean is interval.low is None
    assert interval.reason


def test_equal_values_have_no_interval_even_if_they_differ_by_rounding():
    interval = t_interval([0.1 + 0.2, 0.3, 0.3])
    assert (interval.mean, interval.sd) == (pytest.approx(0.3), 0)
    assert interval.low is interval.high is interval.half_width is None
    assert "equal" in interval.reason


def test_the_critical_value_is_scipys():
    assert critical_t(5, 0.9) == pytest.approx(stats.t.ppf(0.95, 4))


def test_the_chance_of_the_test_set_by_hand():
    # Wilson: half width = z / (1 + z²/n) · sqrt(p(1 − p)/n + z²/4n²); 75 % of 10,000 gives ±0.85 points.
    z, p, n = stats.norm.ppf(0.975), 0.75, 10_000
    by_hand = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert sampling_half_width(p, n) == pytest.approx(by_hand)
    assert round(100 * by_hand, 2) == 0.85
