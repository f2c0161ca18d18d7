from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from kdbench.analysis.crossed import over_seeds_and_examples
from kdbench.analysis.intervals import t_interval
from kdbench.analysis.power import detectable_difference


def draw(generator, seeds, examples, of_seeds, of_examples):
    return (
        generator.normal(0, of_seeds, (seeds, 1))
        + generator.normal(0, of_examples, (1, examples))
        + generator.normal(0, 1, (seeds, examples))
    )


def test_mean_squares_by_hand():
    # Seed means 3 and 0; example means 1, 1.5, 2; the interaction leaves ±0.5, 0, ∓0.5.
    table = np.array([[2.0, 3.0, 4.0], [0.0, 0.0, 0.0]])
    # MS_S = 3·4.5 = 13.5, MS_N = 2·0.5/2 = 0.5, MS_R = 4·0.25/2 = 0.5: examples add nothing
    found = over_seeds_and_examples(table)
    half = stats.t.ppf(0.975, 1) * np.sqrt(13.5 / 6)
    assert (found.low, found.high) == (pytest.approx(1.5 - half), pytest.approx(1.5 + half))
    assert found.reason == "the examples add no spread that shows beside that of the seeds"


def test_without_a_chance_of_examples_it_is_the_t_interval_over_seeds():
    table = np.random.default_rng(0).normal(size=(4, 1)) + np.zeros((1, 50))
    interval = t_interval(table[:, 0])
    found = over_seeds_and_examples(table)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.reason is not None


def test_seeds_that_do_not_differ_are_refused():
    with pytest.raises(ValueError, match="all seed means are equal"):
        over_seeds_and_examples(np.array([[0.0, 1.0], [1.0, 0.0]]))


def test_one_example_is_refused():
    with pytest.raises(ValueError, match="one example"):
        over_seeds_and_examples(np.array([[0.0], [1.0], [1.0]]))


def test_it_is_never_shorter_than_the_t_interval_over_seeds():
    generator = np.random.default_rng(1)
    for _ in range(100):
        table = draw(generator, 3, 60, 0.05, 1.0)
        found = over_seeds_and_examples(table)
        interval = t_interval(table.mean(axis=1))
        assert found.low <= interval.low + 1e-12
        assert found.high >= interval.high - 1e-12
        same = (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=1e-12)
        assert (found.reason is not None) == same


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(("of_seeds", "of_examples"), [(0.0, 1.0), (0.1, 1.0), (0.3, 0.2)])
def test_it_covers_the_truth_where_seeds_and_examples_are_drawn(seeds, of_seeds, of_examples):
    generator, repetitions = np.random.default_rng(2), 500
    covered = 0
    for _ in range(repetitions):
        found = over_seeds_and_examples(draw(generator, seeds, 100, of_seeds, of_examples))
        covered += found.low <= 0 <= found.high
    assert stats.binomtest(covered, repetitions, 0.95, alternative="less").pvalue > 0.001


def test_the_t_interval_over_seeds_does_not():
    # This is why there is another: seeds that share their examples err together.
    generator = np.random.default_rng(3)
    covered = 0
    for _ in range(500):
        interval = t_interval(draw(generator, 5, 100, 0.0, 1.0).mean(axis=1))
        covered += interval.low <= 0 <= interval.high
    assert covered / 500 < 0.85


@pytest.mark.parametrize(("n", "alpha"), [(2, 0.05), (3, 0.05), (5, 0.05), (10, 0.01), (30, 0.001)])
def test_the_detectable_difference_is_that_of_statsmodels(n, alpha):
    from statsmodels.stats.power import TTestPower

    effect = TTestPower().solve_power(nobs=n, alpha=alpha, power=0.8, alternative="two-sided")
    assert detectable_difference(0.02, n, alpha) == pytest.approx(0.02 * effect, rel=1e-4)


@pytest.mark.parametrize(("n", "alpha"), [(3, 0.05), (3, 0.05 / 13), (5, 0.05 / 100)])
def test_the_detectable_difference_is_shown_in_four_of_five_runs(n, alpha):
    # Where statsmodels finds no root, drawing still tells.
    effect = detectable_difference(1.0, n, alpha)
    sample = np.random.default_rng(4).normal(effect, 1.0, size=(20_000, n))
    shown = (stats.ttest_1samp(sample, 0.0, axis=1).pvalue < alpha).mean()
    assert shown == pytest.approx(0.8, abs=0.01)


def test_more_seeds_show_smaller_differences():
    found = [detectable_difference(1.0, n, 0.05) for n in (2, 3, 5, 10, 30)]
    assert found == sorted(found, reverse=True)
