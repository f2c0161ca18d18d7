"""How far a median or a speed-up may be off by the chance of its rounds: bootstrap intervals.

Calls within a round see the machine in one state, so they are no independent samples; whole rounds are
drawn. The interval is of one run: how far another run may be off, only another run tells
(``kdbench measure --repeat``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

CONFIDENCE = 0.95
RESAMPLES = 1000
# Fewer values than this give an interval that is too narrow.
FEWEST_ROUNDS = 11

Bounds = tuple[float, float]


def median_interval(samples: pd.DataFrame) -> Bounds | None:
    """Return the 95 % percentile interval of the median of ``ms``, drawing rounds; None with under 11 rounds.

    ``samples`` has the columns ``round`` and ``ms``. A round that is drawn k times counts each of its calls k
    times (cluster bootstrap). Source: Davison and Hinkley, Bootstrap Methods and their Application, 1997,
    section 3.8.
    """
    samples = samples.sort_values("ms")
    milliseconds = samples["ms"].to_numpy()
    positions, rounds = pd.factorize(samples["round"])
    if len(rounds) < FEWEST_ROUNDS:
        return None

    def medians(drawn: np.ndarray, axis: int = -1) -> np.ndarray:
        """Return the median for each row of drawn rounds (..., n): a weighted median of all calls."""
        flat = drawn.reshape(-1, drawn.shape[-1])
        counts = np.stack([np.bincount(row, minlength=len(rounds)) for row in flat])
        weights = counts[:, positions].cumsum(1)
        first = (weights < weights[:, -1:] / 2).sum(1)
        return milliseconds[first].reshape(drawn.shape[:-1])

    return _percentile_interval(np.arange(len(rounds)), medians)


def ratio_interval(ratios: np.ndarray) -> Bounds | None:
    """Return the 95 % percentile interval of the median of the rounds' ratios; None with under 11 rounds."""
    return _percentile_interval(ratios, np.median) if len(ratios) >= FEWEST_ROUNDS else None


def _percentile_interval(values: np.ndarray, statistic: Any) -> Bounds:
    # It takes longer to import than everything else here, and what only names columns does without.
    from scipy.stats import bootstrap

    found = bootstrap(
        (values,),
        statistic,
        n_resamples=RESAMPLES,
        batch=100,
        vectorized=True,
        axis=-1,
        confidence_level=CONFIDENCE,
        method="percentile",
        random_state=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)
