"""Means over seeds with their t interval; what cannot be computed is None, with the reason beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean over n values, its sample standard deviation and its interval; ``reason`` explains a None."""

    n: int
    mean: float | None
    sd: float | None
    low: float | None
    high: float | None
    reason: str | None = None

    @property
    def half_width(self) -> float | None:
        """The number behind the ± sign, or None where there is no interval."""
        if self.mean is None or self.high is None:
            return None
        return self.high - self.mean


def no_value(reason: str) -> Interval:
    """Return the interval of no values at all."""
    return Interval(n=0, mean=None, sd=None, low=None, high=None, reason=reason)


def t_interval(values: Iterable[float], confidence: float = CONFIDENCE) -> Interval:
    """Return mean, sample standard deviation and t interval: mean ± t((1 + confidence)/2, n − 1) · sd/√n.

    One value, or equal values, give a mean without an interval; no value gives neither. Source: Student,
    1908.
    """
    sample = np.asarray(list(values), dtype=np.float64)
    n = len(sample)
    if n == 0:
        return no_value("no value was recorded")
    mean = float(sample.mean())
    if n == 1:
        return Interval(n, mean, None, None, None, "one seed: an interval needs at least two")
    if is_constant(sample):
        # The formula gives a width of zero, which would claim certainty from values that happen to agree.
        return Interval(n, mean, 0.0, None, None, f"all {n} values are equal: no spread to estimate")
    sd = float(sample.std(ddof=1))
    half = critical_t(n, confidence) * sd / math.sqrt(n)
    return Interval(n, mean, sd, mean - half, mean + half)


@cache
def critical_t(n: int, confidence: float = CONFIDENCE) -> float:
    """Return the two-sided critical value of Student's t for n values (n − 1 degrees of freedom)."""
    return float(stats.t.ppf((1 + confidence) / 2, n - 1))


def is_constant(sample: np.ndarray, scale: float | None = None) -> bool:
    """Return whether a sample spreads no more than rounding errors of numbers as large as ``scale``."""
    largest = float(np.abs(sample).max()) if scale is None else scale
    return float(np.ptp(sample)) <= 1e-12 * largest


def sampling_half_width(proportion: float, examples: int, confidence: float = CONFIDENCE) -> float:
    """Return half the width of the Wilson interval of a proportion measured on ``examples`` examples.

    This is the chance of the test set, which intervals over seeds leave out. Source: Wilson, 1927.
    """
    low, high = proportion_confint(proportion * examples, examples, alpha=1 - confidence, method="wilson")
    return float(high - low) / 2
