"""The one footing of all timings: medians over rounds, on the pace that the reference had in each of them.

In every round each model has a turn; s(r) is the median of a model's calls in round r, t(r) that of the
reference. The reference's latency is T = median of t(r), its pace in a round t(r) / T. Every call is divided
by the pace of its round, so that a machine that slows down for a while slows no model against another:

    latency   = median over the rounds of s(r) / pace(r)
    speed-up  = T / latency

The reference's own latency is T by the same formula, and the speed-up is the ratio of the two latencies as
they are printed. Without a reference the pace is 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from kdbench.efficiency.intervals import Bounds, Floats, median_interval, rounds_interval

# A figure whose 95 % interval is wider than this share of it, so that it may be off by about a quarter, or
# whose rounds' middle half spreads further than this share of their median, is not shown. On shared
# 2-core machines on which a fixed piece of work varied by 20 to 48 % (results/repeatability) the rounds of
# a speed-up spread by 3 to 26 % and repeated runs agreed within 14 %; a run beyond it had 40 to 85 %.
MOST_WIDTH = 0.5
MOST_SPREAD = 0.5


@dataclass(frozen=True)
class Estimate:
    """A figure of one run, its 95 % interval, and, where the machine was too noisy, why it means nothing."""

    value: float
    interval: Bounds | None
    noise: str | None


def spread(values: Floats | list[float]) -> float:
    """Return the interquartile range of values as a share of their median."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return float((high - low) / middle)


@dataclass(frozen=True)
class Rounds:
    """One model in one place, beside the reference where there is one.

    ``samples`` are the model's calls in the rounds that count: columns round, ms, and ``pace`` of that
    round. ``own`` and ``reference`` are the medians of those rounds, ``others`` those of the reference in
    rounds in which the model had no turn. Without a reference, ``reference`` is None.
    """

    samples: pd.DataFrame
    own: Floats
    reference: Floats | None
    others: Floats
    is_reference: bool

    @classmethod
    def of(cls, there: pd.DataFrame, label: str, reference: str | None) -> Rounds:
        """Return the rounds of a model from all samples (columns model, round, ms) of one place.

        A reference that was not timed there is none.
        """
        mine = there[there["model"] == label][["round", "ms"]]
        own = mine.groupby("round")["ms"].median()
        medians = there[there["model"] == (reference or "")].groupby("round")["ms"].median()
        if medians.empty:
            return cls(mine.assign(pace=1.0), own.to_numpy(), None, np.empty(0), False)
        shared = own.index.intersection(medians.index)
        pace = medians / medians.median()
        counted = mine[mine["round"].isin(shared)]
        return cls(
            samples=counted.assign(pace=counted["round"].map(pace)),
            own=own[shared].to_numpy(),
            reference=medians[shared].to_numpy(),
            others=medians.drop(shared).to_numpy(),
            is_reference=label == reference,
        )

    @property
    def count(self) -> int:
        """How many rounds count."""
        return len(self.own)

    def latency(self) -> Estimate:
        """Return the latency in milliseconds."""
        if self.reference is None or self.is_reference:
            noise = _noise(spread(self.own), "the round medians")
            return _judged(float(np.median(self.own)), median_interval(self.own), noise)
        reference = np.concatenate([self.reference, self.others])
        noise = _noise(spread(reference), "the round medians of the reference") or self.speedup().noise
        middle = _judged(float(np.median(reference)), median_interval(reference), noise)
        value = middle.value * float(np.median(self.own / self.reference))
        return _judged(value, rounds_interval(_latencies, self._pairs, self.others), middle.noise)

    def speedup(self) -> Estimate:
        """Return how many times faster than the reference the model is."""
        if self.reference is None:
            raise ValueError("there is no reference in this place")
        if self.is_reference:
            return Estimate(1.0, None, None)
        ratios = self.own / self.reference
        bounds = median_interval(ratios)
        noise = _noise(spread(ratios), "the ratios of the rounds")
        interval = None if bounds is None else (1 / bounds[1], 1 / bounds[0])
        return _judged(1 / float(np.median(ratios)), interval, noise)

    def percentile(self, percent: float) -> float:
        """Return a percentile in milliseconds of the calls, each divided by the pace of its round.

        Every round weighs the same, so that a percentile above the 75th is never below ``latency``: half of
        the rounds have their median, and so half of their calls, at or above it.
        """
        calls = self.samples["ms"] / self.samples["pace"]
        weights = 1 / self.samples.groupby("round")["ms"].transform("size")
        return float(np.quantile(calls, percent / 100, weights=weights, method="inverted_cdf"))

    @property
    def _pairs(self) -> Floats:
        assert self.reference is not None
        return np.stack([self.own, self.reference], axis=1)


def _latencies(pairs: Floats, others: Floats | None = None) -> Floats:
    """Return the latency of each draw of pairs (draws, rounds, 2) and of the reference's other rounds."""
    own, reference = pairs[..., 0], pairs[..., 1]
    every = reference if others is None else np.concatenate([reference, others], axis=1)
    return np.asarray(np.median(every, axis=1) * np.median(own / reference, axis=1))


def _judged(value: float, interval: Bounds | None, noise: str | None) -> Estimate:
    if noise is None and interval is not None:
        width = (interval[1] - interval[0]) / value
        if width > MOST_WIDTH:
            noise = (
                f"the machine was too noisy: the 95 % interval is {width:.0%} of the figure wide; up to "
                f"{MOST_WIDTH:.0%} a figure is shown"
            )
    return Estimate(value, None if noise else interval, noise)


def _noise(share: float, what: str) -> str | None:
    if share <= MOST_SPREAD:
        return None
    return (
        f"the machine was too noisy: the middle half of {what} spreads over {share:.0%} of their median; "
        f"up to {MOST_SPREAD:.0%} a figure is shown"
    )
