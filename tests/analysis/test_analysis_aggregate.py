"""Aggregates over tasks: their values against scipy, and that their intervals cover what they claim."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from kdbench.analysis import aggregate
from kdbench.analysis.aggregate import (
    interquartile_mean,
    mean_probability_of_improvement,
    probability_of_improvement,
    relative_improvement,
)

GENERATOR = np.random.default_rng(7)
REPETITIONS = 400
Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
SCORES: dict[str, Draw] = {
    "normal": lambda draw, shape: draw.normal(size=shape),
    "skewed": lambda draw, shape: (draw.gamma(1.5, size=shape) - 1.5) / np.sqrt(1.5),
    # as accuracies on a test set so small that a standard deviation is two examples
    "discrete": lambda draw, shape: np.round(2 * draw.normal(size=shape)) / 2,
}


def is_covered(covered: int) -> bool:
    """Whether a count of ``REPETITIONS`` is what a coverage of at least 93 % could give."""
    return stats.binomtest(covered, REPETITIONS, 0.93, alternative="less").pvalue > 0.01


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


def test_without_trimming_the_interval_is_the_t_interval(monkeypatch):
    monkeypatch.setattr(aggregate, "FEWEST_TASKS", 1)
    scores = np.array([0.70, 0.72, 0.71])
    found = interquartile_mean([scores])
    theirs = stats.t.interval(0.95, 2, scores.mean(), stats.sem(scores))
    assert (found.low, found.high) == pytest.approx(theirs)


def test_one_task_has_the_interval_of_a_trimmed_mean(monkeypatch):
    """Tukey and McLaughlin's, of scipy's winsorised sample: (n − 1)·s²_w/(h(h − 1)), and h − 1 degrees."""
    monkeypatch.setattr(aggregate, "FEWEST_TASKS", 1)
    scores = GENERATOR.normal(size=16)
    winsorised = np.asarray(stats.mstats.winsorize(scores, limits=(0.25, 0.25)))
    error = np.sqrt(15 * winsorised.var(ddof=1) / (8 * 7))
    found = interquartile_mean([scores])
    assert found.half_width == pytest.approx(stats.t.ppf(0.975, 7) * error)


@pytest.mark.parametrize("scores", SCORES)
@pytest.mark.parametrize(("tasks", "seeds"), [(4, 2), (4, 5), (10, 3)])
def test_the_interval_of_an_interquartile_mean_covers(scores, tasks, seeds):
    draw, levels = np.random.default_rng(1), np.linspace(0, 3, tasks)[:, None]

    def drawn() -> np.ndarray:
        return levels + SCORES[scores](draw, (tasks, seeds))

    truth = np.mean(stats.trim_mean([drawn().ravel() for _ in range(20_000)], 0.25, axis=1))
    found = [interquartile_mean(list(drawn())) for _ in range(REPETITIONS)]
    assert is_covered(sum(each.low is None or each.low <= truth <= each.high for each in found))


def test_of_fewer_tasks_it_would_not(monkeypatch):
    """Why there is none: two students, of which one varies much more than the other."""
    monkeypatch.setattr(aggregate, "FEWEST_TASKS", 2)
    draw, spread = np.random.default_rng(1), np.array([[0.2], [4.0]])

    def drawn() -> np.ndarray:
        return np.array([[0.0], [3.0]]) + spread * draw.normal(size=(2, 5))

    truth = np.mean(stats.trim_mean([drawn().ravel() for _ in range(20_000)], 0.25, axis=1))
    found = [interquartile_mean(list(drawn())) for _ in range(REPETITIONS)]
    assert not is_covered(sum(each.low <= truth <= each.high for each in found))


def test_what_has_no_interval_says_why():
    found = interquartile_mean([np.array([0.5]), np.array([0.6, 0.7])])
    assert found.low is None and "one seed" in found.reason
    found = interquartile_mean([np.array([0.5, 0.6])] * 3)
    assert (found.mean, found.low, found.high) == (pytest.approx(0.55), None, None)
    assert found.reason == "an interval needs at least 4 students: of fewer it covers too little"
    found = interquartile_mean([np.full(3, 0.5)] * 4)
    assert (found.mean, found.low) == (0.5, None)
    assert "does not vary" in found.reason
    found = mean_probability_of_improvement([np.ones((1, 2)), np.ones((3, 2))])
    assert found.low is None and "one seed" in found.reason


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


@pytest.mark.parametrize("scores", SCORES)
@pytest.mark.parametrize(("tasks", "seeds"), [(1, 2), (1, 5), (3, 2), (3, 3), (10, 3)])
@pytest.mark.parametrize("gain", [0.0, 2.0, 3.0])
def test_the_interval_of_a_probability_of_improvement_covers(scores, tasks, seeds, gain):
    draw, gains = np.random.default_rng(2), np.array([gain, 0.0])
    ours, theirs = (SCORES[scores](draw, (100_000,)) + own for own in gains)
    truth = ((ours > theirs) + 0.5 * (ours == theirs)).mean()
    covered = 0
    for _ in range(REPETITIONS):
        found = mean_probability_of_improvement(list(SCORES[scores](draw, (tasks, seeds, 2)) + gains))
        assert 0 <= found.low <= found.mean <= found.high <= 1
        covered += found.low <= truth <= found.high
    assert is_covered(covered)


def test_an_improvement_by_every_seed_is_no_certainty():
    """All of four seeds, once and in ten students: more of them bound the chance of a loss more closely."""
    always = np.array([[1.0, 0.0], [1.1, 0.1], [1.2, 0.2], [1.3, 0.3]])
    one, ten = (mean_probability_of_improvement([always] * tasks) for tasks in (1, 10))
    assert one.mean == one.high == ten.high == 1
    assert 0.3 < one.low < 0.6 < 0.9 < ten.low < 1


def test_the_interval_of_a_probability_is_the_same_seen_from_the_other_side():
    tasks = list(GENERATOR.normal(size=(3, 4, 2)))
    found = mean_probability_of_improvement(tasks)
    turned = mean_probability_of_improvement([task[:, ::-1] for task in tasks])
    assert (turned.low, turned.high) == pytest.approx((1 - found.high, 1 - found.low))


def test_relative_improvement_by_hand():
    # (0.74 − 0.73)/(0.73 − 0.69) = 0.25 and (0.72 − 0.71)/(0.71 − 0.70) = 1
    assert relative_improvement([0.74, 0.72], [0.73, 0.71], [0.69, 0.70]) == pytest.approx(0.625)
    assert relative_improvement([0.73], [0.73], [0.69]) == 0
