"""Imbalance: the exponential long tail of Cui et al. 2019 (arXiv 1901.05555), made from any dataset."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from kdbench.errors import UserError


def long_tail_counts(available: NDArray[np.intp], factor: float) -> NDArray[np.intp]:
    """Return how many examples of each class a long tail keeps: n_c = ⌊n_max · factor^(−c / (K − 1))⌋.

    ``available`` (K,) are the examples of each class, in class order, and n_max is the largest of them. Every
    class keeps at least one example; one that has fewer than n_c keeps what it has.

    Raises UserError for a factor below 1. Source: Cui et al. 2019, arXiv 1901.05555.

    >>> long_tail_counts(np.full(10, 5000), 100).tolist()
    [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    """
    if not 1 <= factor < math.inf:
        raise UserError(f"imbalance.factor is {factor:g}: give a number of at least 1 (1 is no imbalance).")
    wanted = available.max() * factor ** -(np.arange(len(available)) / (len(available) - 1))
    # A count that is whole but for the rounding of the power must not lose one.
    return np.minimum(available, np.maximum(1, np.floor(wanted + 1e-9).astype(np.intp)))


def long_tailed(labels: NDArray[np.int64], num_classes: int, factor: float, *, seed: int) -> NDArray[np.intp]:
    """Return the rows of a long tail, ascending; which examples of a class stay is random by ``seed``.

    For one seed a larger factor keeps a part of what a smaller one keeps. Raises UserError for a factor
    below 1.
    """
    counts = long_tail_counts(np.bincount(labels, minlength=num_classes), factor)
    # RandomState's streams never change between numpy versions, so a seed means one subset for ever.
    order = np.random.RandomState(seed).permutation(len(labels))
    kept = [order[labels[order] == label][:count] for label, count in enumerate(counts)]
    return np.sort(np.concatenate(kept))
