"""From raw latency samples to the figures of a table: percentiles, throughput, speed-up, intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kdbench.efficiency.columns import timing_names
from kdbench.efficiency.intervals import Bounds, median_interval, ratio_interval
from kdbench.efficiency.places import Place
from kdbench.efficiency.protocol import SAMPLES_NEEDED

SAMPLE_COLUMNS = {
    "model": "str",
    "place": "str",
    "device": "str",
    "batch": "int64",
    "threads": "int64",
    "precision": "str",
    "runtime": "str",
    "round": "int64",
    "ms": "float64",
}

NO_REFERENCE = "no reference model was given"

Values = dict[str, float | None]
Reasons = dict[str, str]


def percentiles(samples_ms: Sequence[float] | np.ndarray) -> tuple[Values, Reasons]:
    """Return p50, p90 and p99 of latencies in ms, linearly interpolated between samples.

    A percentile that the number of samples does not support is None, with the reason. The counts needed
    (11, 64, 662) are the early-stopping counts of the MLPerf Inference rules.
    """
    values: Values = {}
    reasons: Reasons = {}
    for percent, needed in SAMPLES_NEEDED.items():
        name = f"p{percent}"
        if len(samples_ms) >= needed:
            values[name] = float(np.percentile(samples_ms, percent))
        else:
            values[name] = None
            reasons[name] = f"{name} needs {needed} samples; {len(samples_ms)} were taken"
    return values, reasons


def round_ratios(reference: pd.DataFrame, model: pd.DataFrame) -> np.ndarray:
    """Return, for each round that both were timed in, the reference's median over the model's.

    Both frames hold the columns ``round`` and ``ms`` of one place. A round sees the machine in one state, so
    the ratio within a round is free of the drift between rounds.
    """
    medians = [frame.groupby("round")["ms"].median() for frame in (reference, model)]
    return (medians[0] / medians[1]).dropna().to_numpy()


def speedup(ratios: np.ndarray) -> tuple[float | None, str | None]:
    """Return the median of the ratios of the rounds.

    None, with the reason, with fewer rounds than a median supports.
    """
    needed = SAMPLES_NEEDED[50]
    if len(ratios) < needed:
        return None, f"the speed-up needs {needed} rounds with the reference; {len(ratios)} were timed"
    return float(np.median(ratios)), None


@dataclass(frozen=True)
class Figures:
    """The timing columns of one model in one place: numbers, why one is None, and 95 % intervals."""

    values: Values
    reasons: Reasons
    intervals: dict[str, Bounds]


def summarise(samples: pd.DataFrame, label: str, reference: str | None, place: Place) -> Figures:
    """Return the timing columns of one model in one place, from the samples of a run."""
    names = timing_names(place)
    there = samples[samples["place"] == place.name]
    own = there[there["model"] == label]
    values, reasons = percentiles(own["ms"].to_numpy())
    bounds: dict[str, Bounds | None] = {}
    median = values["p50"]
    values["throughput"] = None if median is None else 1000 * place.batch / median
    if median is None:
        reasons["throughput"] = reasons["p50"]
    else:
        bounds["p50"] = median_interval(own)
    values["speedup"] = None
    if reference is None:
        reasons["speedup"] = NO_REFERENCE
    else:
        ratios = round_ratios(there[there["model"] == reference], own)
        values["speedup"], reason = speedup(ratios)
        if reason is not None:
            reasons["speedup"] = reason
        elif label != reference:
            bounds["speedup"] = ratio_interval(ratios)
    return Figures(
        {names[key]: value for key, value in values.items()},
        {names[key]: text for key, text in reasons.items()},
        {names[key]: pair for key, pair in bounds.items() if pair is not None},
    )
