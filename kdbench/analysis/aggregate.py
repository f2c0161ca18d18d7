"""One number over several tasks: interquartile mean, probability of improvement, relative improvement."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from kdbench.analysis.intervals import CONFIDENCE, Interval, is_constant

# Scores of one task: its seeds along the axis; for two methods, (S, 2) paired by seed.
Scores = NDArray[np.float64]
ONE_SEED = "a student has one seed: an interval needs at least two"
# Of fewer tasks the interval of the interquartile mean covers less than 93 % (benchmarks/coverage_checks.py).
FEWEST_TASKS = 4


def interquartile_mean(tasks: Sequence[Scores]) -> Interval:
    """Return the mean of the middle half of all scores, tasks and seeds together, with its interval.

    The lowest and highest ⌊n/4⌋ of the n scores are left out, so that one task that fails or shines does not
    decide. The interval is of the mean that other seeds would give for the same tasks. With h scores kept,
    all clipped to the lowest and highest of them, and v_t = n_t·s²_t/n of the n_t clipped scores of a task,
    which have the variance s²_t, it is Student's with the variance (n − 1)/(h(h − 1))·Σ v_t and
    (h − 1)/(n − 1)·(Σ v_t)²/Σ(v_t²/(n_t − 1)) degrees of freedom. There is none for fewer than 4 tasks.
    Source: Agarwal et al. 2021, arXiv 2108.13264, for the mean; Tukey & McLaughlin 1963 and Satterthwaite
    1946 for the interval.
    """
    scores = np.concatenate(list(tasks))
    value, n = float(stats.trim_mean(scores, 0.25)), len(scores)
    if min(len(task) for task in tasks) < 2:
        return Interval(n, value, None, None, None, ONE_SEED)
    if len(tasks) < FEWEST_TASKS:
        reason = f"an interval needs at least {FEWEST_TASKS} students: of fewer it covers too little"
        return Interval(n, value, None, None, None, reason)
    ordered, cut = np.sort(scores), n // 4
    clipped = [np.clip(task, ordered[cut], ordered[n - cut - 1]) for task in tasks]
    if all(is_constant(task) for task in clipped):
        # A width of zero would claim certainty.
        return Interval(n, value, None, None, None, "the middle half of the scores does not vary over seeds")
    kept = n - 2 * cut
    shares = np.array([len(task) * task.var(ddof=1) / n for task in clipped])
    squares = (shares**2 / [len(task) - 1 for task in tasks]).sum()
    freedom = max(1.0, (kept - 1) / (n - 1) * shares.sum() ** 2 / squares)
    variance = (n - 1) / (kept * (kept - 1)) * shares.sum()
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * math.sqrt(variance)
    return Interval(n, value, None, value - half, value + half)


def probability_of_improvement(pairs: Scores) -> float:
    """Return P(A > B): how likely A betters B in one training of each.

    ``pairs`` (S, 2) holds A's and B's score by seed, larger being better. Every A meets every B and a tie
    counts half, which is the Mann–Whitney U over S²; ½ is chance. Source: Agarwal et al. 2021, arXiv
    2108.13264.
    """
    ours, theirs = pairs[:, None, 0], pairs[None, :, 1]
    return float(((ours > theirs) + 0.5 * (ours == theirs)).mean())


def mean_probability_of_improvement(tasks: Sequence[Scores]) -> Interval:
    """Return the mean of P(A > B) over T tasks, each (n, 2), with its interval.

    It holds the p with |P − p| ≤ t·√V(p) + Σ n⁻²/T², where V(p) = p(1 − p)·Σ [1 + (n − 1)·((1 − p)/(2 − p)
    + p/(1 + p))]/(n²T²) is the variance for exponential scores and sums are over the tasks. The quantile t
    has Σ 2(n − 1) degrees of freedom, and the last term is the mean step by which P can change; with the
    normal quantile and without the step, an interval of few seeds covers as few as 88 % where P is near 0
    or 1. A and B are taken as independent, which is on the safe side where a shared seed makes them alike.
    Source: Hanley & McNeil 1982; Newcombe 2006, Statistics in Medicine 25, method 5.
    """
    value = float(np.mean([probability_of_improvement(task) for task in tasks]))
    seeds = np.array([len(task) for task in tasks], dtype=np.float64)
    n = int(seeds.sum())
    if min(seeds) < 2:
        return Interval(n, value, None, None, None, ONE_SEED)
    t = float(stats.t.ppf((1 + CONFIDENCE) / 2, (2 * (seeds - 1)).sum()))
    step = float((1 / seeds**2).sum()) / len(seeds) ** 2

    def excess(p: float, nearest: float) -> float:
        more = (seeds - 1) * ((1 - p) / (2 - p) + p / (1 + p))
        variance = p * (1 - p) * float(((1 + more) / seeds**2).sum()) / len(seeds) ** 2
        return (p - nearest) ** 2 - t**2 * variance

    lowest, highest = value - step, value + step
    low = optimize.brentq(excess, 0.0, lowest, args=(lowest,)) if lowest > 0 else 0.0
    high = optimize.brentq(excess, highest, 1.0, args=(highest,)) if highest < 1 else 1.0
    return Interval(n, value, None, float(low), float(high))


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
