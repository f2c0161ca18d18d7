from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from kdbench.analysis.aggregate import (
    interquartile_mean,
    mean_probability_of_improvement,
    probability_of_improvement,
    relative_improvement,
)
from kdbench.analysis.bootstrap import over_examples, stratified

GENERATOR = np.random.default_rng(7)


def test_the_interval_over_examples_is_scipys_bootstrap():
    scores = (GENERATOR.random(400) < 0.9).astype(float) - (GENERATOR.random(400) < 0.85)
    theirs = stats.bootstrap(
        (scores,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert over_examples(scores) == pytest.approx((theirs.low, theirs.high), abs=0.004)


def test_the_interval_over_examples_is_the_same_every_time():
    scores = np.repeat([0.0, 1.0], [30, 70])
    assert over_examples(scores) == over_examples(scores)


def test_a_wider_confidence_gives_a_wider_interval():
    scores = np.repeat([0.0, 1 / 3, 2 / 3, 1.0], 25)
    low, high = over_examples(scores, 0.99)
    inner_low, inner_high = over_examples(scores, 0.8)
    assert low < inner_low < inner_high < high


def test_the_variance_of_a_stratified_mean_is_unbiased():
    # n − 1 draws of n give the mean the variance s²/n; n draws would give (n − 1)/n of it.
    strata = list(GENERATOR.normal(size=(200, 3)))
    low, high = stratified(strata, lambda drawn: np.mean([d.mean(axis=1) for d in drawn], axis=0))
    expected = np.sqrt(sum(np.var(s, ddof=1) / 3 for s in strata)) / 200
    assert (high - low) / 2 == pytest.approx(1.96 * expected, rel=0.08)


def test_the_interquartile_mean_is_the_trimmed_mean_of_scipy():
    tasks = list(GENERATOR.normal(size=(4, 5)))
    assert interquartile_mean(tasks).mean == stats.trim_mean(np.ravel(tasks), 0.25)
    # of 1 to 8 the middle half is 3 to 6
    assert interquartile_mean([np.arange(1.0, 5.0), np.arange(5.0, 9.0)]).mean == 4.5


def test_one_task_that_fails_does_not_decide():
    tasks = [np.array([0.9, 0.91, 0.92]) for _ in range(9)]
    with_failure = [*tasks, np.zeros(3)]
    assert interquartile_mean(with_failure).mean == pytest.approx(0.91, abs=0.005)


def test_the_interval_of_an_interquartile_mean_contains_it():
    found = interquartile_mean(list(GENERATOR.normal(size=(6, 5))))
    assert found.low < found.mean < found.high
    assert found.n == 30


def test_one_seed_and_equal_draws_give_no_interval():
    found = interquartile_mean([np.array([0.5]), np.array([0.6, 0.7])])
    assert found.low is None and "one seed" in found.reason
    found = interquartile_mean([np.full(3, 0.5), np.full(3, 0.5)])
    assert (found.mean, found.low) == (0.5, None)
    assert "same value" in found.reason


def test_the_probability_of_improvement_is_mann_whitneys():
    pairs = GENERATOR.integers(0, 5, size=(6, 2)).astype(float)
    statistic = stats.mannwhitneyu(pairs[:, 0], pairs[:, 1]).statistic
    assert probability_of_improvement(pairs) == pytest.approx(statistic / 36)
    assert probability_of_improvement(pairs) == pytest.approx(1 - probability_of_improvement(pairs[:, ::-1]))


def test_the_probability_of_improvement_is_meaned_over_tasks():
    always, never = np.array([[2.0, 1.0], [3.0, 1.5]]), np.array([[0.0, 1.0], [0.5, 1.5]])
    assert mean_probability_of_improvement([always, always, never, never]).mean == 0.5
    equal = np.ones((3, 2))
    assert mean_probability_of_improvement([equal]).mean == 0.5


def test_relative_improvement_by_hand():
    # (0.74 − 0.73)/(0.73 − 0.69) = 0.25 and (0.72 − 0.71)/(0.71 − 0.70) = 1
    assert relative_improvement([0.74, 0.72], [0.73, 0.71], [0.69, 0.70]) == pytest.approx(0.625)
    assert relative_improvement([0.73], [0.73], [0.69]) == 0
