"""Bootstrap intervals over test examples; the same every time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kdbench.analysis.intervals import CONFIDENCE

DRAWS = 10_000
# A table that is made twice must say the same twice.
SEED = 0

Bounds = tuple[float, float]


def over_examples(scores: NDArray[np.float64], confidence: float = CONFIDENCE) -> Bounds:
    """Return the percentile bootstrap interval of a mean over test examples, scores (N,).

    Models are held fixed and examples are drawn with replacement. For a paired difference the scores are
    the differences by example. As few distinct scores repeat, the numbers of times that each is drawn are
    multinomial, which is the same bootstrap without N random numbers a draw. Source: Efron, 1979.
    """
    values, counts = np.unique(scores, return_counts=True)
    n = len(scores)
    drawn = np.random.default_rng(SEED).multinomial(n, counts / n, size=DRAWS)
    low, high = np.quantile(drawn @ values / n, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
