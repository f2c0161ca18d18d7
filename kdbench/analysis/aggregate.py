"""One number over several tasks: interquartile mean, probability of improvement, relative improvement."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from kdbench.analysis.bootstrap import Statistic, stratified
from kdbench.analysis.intervals import Interval

# Scores of one task: its seeds along the axis; for two methods, (S, 2) paired by seed.
Scores = NDArray[np.float64]
ONE_SEED = "a student has one seed: an interval needs at least two"


def interquartile_mean(tasks: Sequence[Scores]) -> Interval:
    """Return the mean of the middle half of all scores, tasks and seeds together, with its interval.

    The lowest and highest ⌊n/4⌋ of the n scores are left out, so that one task that fails or shines does not
    decide. The interval is of the bootstrap by task; with few seeds it is somewhat short, and in simulations
    with 3 to 10 seeds covers the truth in 91 to 94 % of cases. Source: Agarwal et al. 2021, arXiv 2108.13264.
    """
    return _with_interval(
        float(stats.trim_mean(np.concatenate(list(tasks)), 0.25)),
        tasks,
        lambda drawn: np.asarray(stats.trim_mean(np.concatenate(drawn, axis=1), 0.25, axis=1)),
    )


def probability_of_improvement(pairs: Scores) -> float:
    """Return P(A > B): how likely A betters B in one training of each.

    ``pairs`` (S, 2) holds A's and B's score by seed, larger being better. Every A meets every B and a tie
    counts half, which is the Mann–Whitney U over S²; ½ is chance. Source: Agarwal et al. 2021, arXiv
    2108.13264.
    """
    return float(_improvement([pairs[None]])[0])


def mean_probability_of_improvement(tasks: Sequence[Scores]) -> Interval:
    """Return the mean of P(A > B) over tasks, each (S, 2), with its interval.

    The seeds of both are drawn together, as they were trained on the same batches.
    """
    return _with_interval(float(_improvement([task[None] for task in tasks])[0]), tasks, _improvement)


def _improvement(tasks: Sequence[Scores]) -> Scores:
    """Return the mean P(A > B) of each draw; tasks (draws, S, 2)."""
    shares = []
    for task in tasks:
        ours, theirs = task[:, :, None, 0], task[:, None, :, 1]
        shares.append(((ours > theirs) + 0.5 * (ours == theirs)).mean(axis=(1, 2)))
    return np.asarray(np.mean(shares, axis=0))


def _with_interval(value: float, tasks: Sequence[Scores], statistic: Statistic) -> Interval:
    n = sum(len(task) for task in tasks)
    if min(len(task) for task in tasks) < 2:
        return Interval(n, value, None, None, None, ONE_SEED)
    low, high = stratified(tasks, statistic)
    if low == high:
        # A width of zero would claim certainty.
        return Interval(n, value, None, None, None, "every draw of the bootstrap gives the same value")
    return Interval(n, value, None, low, high)


def relative_improvement(
    ours: Sequence[float], reference: Sequence[float], control: Sequence[float]
) -> float:
    """Return ARI: the mean over tasks of (ours − reference)/(reference − control).

    It is the gain over a reference method (``kd``), as a share of what the reference gains over the control
    (``scratch``); a task in which the reference gains little decides the mean. The gains of the reference
    must be positive. Source: Tian et al. 2020, arXiv 1910.10699.

    >>> relative_improvement([0.74, 0.72], [0.73, 0.71], [0.69, 0.70])
    0.625
    """
    gains = np.asarray(reference) - np.asarray(control)
    return float(np.mean((np.asarray(ours) - np.asarray(reference)) / gains))
