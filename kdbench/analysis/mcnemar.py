"""Two models on one test set: McNemar's test, and what it becomes for several trainings of both."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from kdbench.analysis.outcomes import Hits

# Below this many examples on which the two differ, the exact distribution is used.
EXACT_BELOW = 25


def mcnemar(ours: Hits, theirs: Hits) -> float:
    """Return the p-value of McNemar's test that two models are right equally often, (N,) and (N,).

    With b examples that only the first has right and c that only the second has: exact (binomial) where
    b + c < 25, else max(|b − c| − 1, 0)²/(b + c) against χ² with one degree of freedom. Source: McNemar,
    1947; Edwards, 1948, for the correction of continuity, which never takes |b − c| beyond zero.
    """
    only_ours, only_theirs = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    differing = only_ours + only_theirs
    if differing < EXACT_BELOW:
        return min(1.0, 2 * float(stats.binom.cdf(min(only_ours, only_theirs), differing, 0.5)))
    return float(stats.chi2.sf(max(abs(only_ours - only_theirs) - 1, 0) ** 2 / differing, df=1))


def mcnemar_over_seeds(ours: Sequence[Hits], theirs: Sequence[Hits]) -> float:
    """Return one p-value for several pairs of models that were tested on the same N examples.

    The pairs share their test set, so that their p-values depend on each other and must not be multiplied.
    Instead each example is one cluster: with dᵢ the number of pairs in which only our model has example i
    right, minus that in which only theirs has, (Σ dᵢ)²/Σ dᵢ² goes against χ² with one degree of freedom.
    Where fewer than 25 dᵢ differ from zero the p-value is exact, over all signs of the dᵢ. One pair gives
    ``mcnemar``. Source: Durkalski et al., Statistics in Medicine 22, 2003.
    """
    if len(ours) == 1:
        return mcnemar(ours[0], theirs[0])
    balance = np.array(ours, dtype=np.int64).sum(axis=0) - np.array(theirs, dtype=np.int64).sum(axis=0)
    balance = balance[balance != 0]
    if len(balance) < EXACT_BELOW:
        return _sign_flips(balance)
    return float(stats.chi2.sf(balance.sum() ** 2 / (balance**2).sum(), df=1))


def _sign_flips(values: NDArray[np.int64]) -> float:
    """Return how often random signs give a sum at least as far from zero as that of ``values``."""
    shares = np.ones(1)
    for size in np.abs(values):
        # the shares of the sums −T, −T + 1, ..., T, where T is the sum of the sizes so far
        longer = np.zeros(len(shares) + 2 * size)
        longer[: len(shares)] += shares / 2
        longer[2 * size :] += shares / 2
        shares = longer
    largest = len(shares) // 2
    sums = np.arange(-largest, largest + 1)
    return min(1.0, float(shares[np.abs(sums) >= abs(values.sum())].sum()))
