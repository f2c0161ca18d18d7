"""From raw latency samples to the figures of a table: percentiles, throughput, speed-up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from kdbench.efficiency.columns import timing_names
from kdbench.efficiency.protocol import SAMPLES_NEEDED

SAMPLE_COLUMNS = {
    "model": "str",
    "device": "str",
    "batch": "int64",
    "threads": "int64",
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


def speedup(reference: pd.DataFrame, model: pd.DataFrame) -> tuple[float | None, str | None]:
    """Return the median, over the rounds that both were timed in, of the ratio of their medians.

    Both frames hold the columns ``round`` and ``ms`` of one device and batch size. A round sees the machine
    in one state, so the ratio within a round is free of the drift between rounds. None, with the reason, with
    fewer rounds than a median supports.
    """
    medians = [frame.groupby("round")["ms"].median() for frame in (reference, model)]
    ratios = (medians[0] / medians[1]).dropna()
    needed = SAMPLES_NEEDED[50]
    if len(ratios) < needed:
        return None, f"the speed-up needs {needed} rounds with the reference; {len(ratios)} were timed"
    return float(ratios.median()), None


def summarise(
    samples: pd.DataFrame, label: str, reference: str | None, device: str, batch: int
) -> tuple[Values, Reasons]:
    """Return the timing columns of one model on one device at one batch size, from the samples of a run."""
    names = timing_names(device, batch)
    place = samples[(samples["device"] == device) & (samples["batch"] == batch)]
    own = place[place["model"] == label]
    values, reasons = percentiles(own["ms"].to_numpy())
    median = values["p50"]
    values["throughput"] = None if median is None else 1000 * batch / median
    if median is None:
        reasons["throughput"] = reasons["p50"]
    ratio, reason = (
        (None, NO_REFERENCE) if reference is None else speedup(place[place["model"] == reference], own)
    )
    values["speedup"] = ratio
    if reason is not None:
        reasons["speedup"] = reason
    return (
        {names[key]: value for key, value in values.items()},
        {names[key]: text for key, text in reasons.items()},
    )
