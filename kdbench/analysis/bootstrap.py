"""Bootstrap intervals: over test examples, and over the seeds of several tasks; the same every time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from kdbench.analysis.intervals import CONFIDENCE

DRAWS = 10_000
# A table that is made twice must say the same twice.
SEED = 0

Bounds = tuple[float, float]
Statistic = Callable[[list[NDArray[np.float64]]], NDArray[np.float64]]


def over_examples(scores: NDArray[np.float64], confidence: float = CONFIDENCE) -> Bounds:
    """Return the percentile bootstrap interval of a mean over test examples, scores (N,).

    Models are held fixed and examples are drawn with replacement. For a paired difference the scores are
    the differences by example. As few distinct scores repeat, the numbers of times that each is drawn are
    multinomial, which is the same bootstrap without N random numbers a draw. Source: Efron, 1979.
    """
    values, counts = np.unique(scores, return_counts=True)
    n = len(scores)
    drawn = np.random.default_rng(SEED).multinomial(n, counts / n, size=DRAWS)
    return _percentiles(drawn @ values / n, confidence)


def stratified(
    strata: Sequence[NDArray[np.float64]],
    statistic: Statistic,
    draws: int = 2_000,
    confidence: float = CONFIDENCE,
) -> Bounds:
    """Return the percentile interval of a statistic of several tasks, by a bootstrap within each task.

    Each stratum (n, ...) holds a task's seeds along its first axis, at least two; ``statistic`` maps what
    was drawn, arrays (draws, n − 1, ...), to (draws,). n − 1 seeds are drawn from n with replacement: the
    usual n would make the variance too small by (n − 1)/n, a third for three seeds. Source: Agarwal et al.
    2021, arXiv 2108.13264; McCarthy & Snowden, 1985, for n − 1.
    """
    generator = np.random.default_rng(SEED)
    drawn = [stratum[generator.integers(len(stratum), size=(draws, len(stratum) - 1))] for stratum in strata]
    return _percentiles(statistic(drawn), confidence)


def _percentiles(values: NDArray[np.float64], confidence: float) -> Bounds:
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
