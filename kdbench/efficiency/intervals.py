"""How far a figure may be off by the chance of its rounds: bootstrap intervals.

Calls within a round see the machine in one state, so they are no independent samples; whole rounds are
drawn. The interval is of one run: how far another run may be off, only another run tells
(``kdbench measure --repeat``).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
RESAMPLES = 1000
# Fewer rounds than this give an interval that is too narrow.
FEWEST_ROUNDS = 11

Bounds = tuple[float, float]
Floats = NDArray[np.float64]


def rounds_interval(statistic: Callable[..., Floats], *strata: Floats) -> Bounds | None:
    """Return the 95 % percentile interval of a statistic, drawing rounds; None with under 11 of them.

    A stratum holds a round a row; of each as many rows are drawn, with replacement, as it has. ``statistic``
    takes the draws of every stratum, (draws, rounds, ...), and returns one number a draw; the first stratum
    must be the rounds that it rests on. Source: Davison and Hinkley, Bootstrap Methods and their
    Application, 1997, chapters 2 and 3.
    """
    if len(strata[0]) < FEWEST_ROUNDS:
        return None
    generator = np.random.default_rng(0)
    draws = [rows[generator.integers(0, len(rows), (RESAMPLES, len(rows)))] for rows in strata if len(rows)]
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(statistic(*draws), [tail, 100 - tail])
    return float(low), float(high)


def median_interval(values: Floats) -> Bounds | None:
    """Return the 95 % interval of the median of one value a round; None with under 11 rounds."""
    return rounds_interval(lambda drawn: np.median(drawn, axis=1), values)
