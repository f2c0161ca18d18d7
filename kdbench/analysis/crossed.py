"""An interval that covers both chances of a benchmark: of the training seeds and of the test examples."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from kdbench.analysis.intervals import CONFIDENCE, is_constant


@dataclass(frozen=True)
class Crossed:
    """The bounds of an interval over seeds and examples; ``reason`` says why it is that over seeds alone."""

    low: float
    high: float
    reason: str | None = None


def over_seeds_and_examples(differences: NDArray[np.float64], confidence: float = CONFIDENCE) -> Crossed:
    """Return the interval of a mean over S seeds and N examples, both drawn at random; shape (S, N).

    Every seed meets every example, so that seeds and examples are crossed. With the mean squares of the
    two-way table (MS_S of seeds, MS_N of examples, MS_R of what is left), the variance of the mean is
    (MS_S + max(MS_N − MS_R, 0))/(S·N), and its degrees of freedom by Satterthwaite's rule are
    (S − 1)·(1 + max(MS_N − MS_R, 0)/MS_S)². It is the analysis by which radiology tests several readers on
    the same cases. Raises ValueError where all seed means are equal, or there is one example, which leaves no
    spread to estimate. Source: Satterthwaite, 1946; Hillis, Statistics in Medicine 26, 2007.

    Satterthwaite's degrees of freedom are too many where a few seeds lie close by chance. The interval is
    therefore never shorter than the t interval over the seeds alone, whose width is that of MS_S with S − 1
    degrees of freedom; so it also never says more than the latter.
    """
    seeds, examples = differences.shape
    mean = differences.mean()
    by_seed, by_example = differences.mean(axis=1), differences.mean(axis=0)
    if is_constant(by_seed, scale=1.0):
        raise ValueError("all seed means are equal: no spread to estimate")
    if examples < 2:
        raise ValueError("one example: no spread to estimate")
    residual = differences - by_seed[:, None] - by_example + mean
    ms_seeds = examples * ((by_seed - mean) ** 2).sum() / (seeds - 1)
    ms_examples = seeds * ((by_example - mean) ** 2).sum() / (examples - 1)
    ms_residual = (residual**2).sum() / ((seeds - 1) * (examples - 1))
    of_examples = max(ms_examples - ms_residual, 0.0)
    freedom = (seeds - 1) * (1 + of_examples / ms_seeds) ** 2
    both = _half_width(ms_seeds + of_examples, freedom, differences.size, confidence)
    alone = _half_width(ms_seeds, seeds - 1, differences.size, confidence)
    half = max(both, alone)
    reason = "the examples add no spread that shows beside that of the seeds" if both <= alone else None
    return Crossed(float(mean - half), float(mean + half), reason)


def _half_width(mean_square: float, freedom: float, size: int, confidence: float) -> float:
    return float(stats.t.ppf((1 + confidence) / 2, freedom)) * math.sqrt(mean_square / size)
