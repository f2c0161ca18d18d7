"""Methods ranked over several tasks: Friedman's test, and Nemenyi's critical difference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from kdbench.printable import counted

ALPHA = 0.05
FEWEST_METHODS = 3
FEWEST_BLOCKS = 3


@dataclass(frozen=True)
class Ranking:
    """Methods by their mean rank over blocks, the best (lowest) first.

    ``p`` is of Friedman's test. Methods whose mean ranks differ by less than ``critical_difference`` cannot
    be told apart; ``cliques`` are the longest runs of such methods, as indices (first, last). Where nothing
    can be tested these are None and empty, with the reason.
    """

    methods: tuple[str, ...]
    mean_ranks: tuple[float, ...]
    blocks: int
    statistic: float | None = None
    p: float | None = None
    critical_difference: float | None = None
    cliques: tuple[tuple[int, int], ...] = ()
    reason: str | None = None

    @property
    def differs(self) -> bool:
        """Return whether Friedman's test shows that the methods are not all alike."""
        return self.p is not None and self.p < ALPHA


def rank_methods(scores: NDArray[np.float64], methods: Sequence[str]) -> Ranking:
    """Return the ranking of k methods on N blocks, scores (N, k), larger being better.

    In each block the best method has rank 1, and equal ones share the mean of their ranks. Friedman's χ²
    and its p-value are scipy's. Source: Demšar, JMLR 7, 2006.
    """
    blocks, k = scores.shape
    means = stats.rankdata(-scores, axis=1).mean(axis=0)
    order = np.argsort(means, kind="stable")
    ranking = Ranking(
        tuple(methods[index] for index in order), tuple(float(means[index]) for index in order), blocks
    )
    reason = _why_not(scores)
    if reason:
        return replace(ranking, reason=reason)
    statistic, p = stats.friedmanchisquare(*scores.T)
    difference = critical_difference(k, blocks)
    return replace(
        ranking,
        statistic=float(statistic),
        p=float(p),
        critical_difference=difference,
        cliques=cliques(ranking.mean_ranks, difference),
    )


def _why_not(scores: NDArray[np.float64]) -> str | None:
    blocks, k = scores.shape
    if k < FEWEST_METHODS:
        return f"{counted(k, 'method')}: Friedman's test needs at least {FEWEST_METHODS}"
    if blocks < FEWEST_BLOCKS:
        return f"{counted(blocks, 'student')}: Friedman's test needs at least {FEWEST_BLOCKS}"
    if np.all(scores == scores[:, :1]):
        return "all methods are equal on every student"
    return None


@cache
def critical_difference(k: int, blocks: int, alpha: float = ALPHA) -> float:
    """Return Nemenyi's critical difference of mean ranks: CD = q·√(k(k + 1)/6N).

    q is the quantile of the studentised range of k groups with infinite degrees of freedom, over √2.
    Source: Nemenyi, 1963; Demšar, JMLR 7, 2006.

    >>> round(critical_difference(4, 14, alpha=0.10), 2)
    1.12
    """
    q = float(stats.studentized_range.ppf(1 - alpha, k, np.inf)) / math.sqrt(2)
    return q * math.sqrt(k * (k + 1) / (6 * blocks))


def cliques(mean_ranks: Sequence[float], difference: float) -> tuple[tuple[int, int], ...]:
    """Return the longest runs of sorted mean ranks whose ends differ by less than ``difference``."""
    runs: list[tuple[int, int]] = []
    for first, rank in enumerate(mean_ranks):
        last = max(index for index, other in enumerate(mean_ranks) if other - rank < difference)
        if last > first and (not runs or last > runs[-1][1]):
            runs.append((first, last))
    return tuple(runs)
