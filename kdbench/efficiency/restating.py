"""Costs that were measured before, stated as they are stated today, from their raw samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from kdbench.bounds import UNCOUNTED
from kdbench.efficiency.operators import is_plain
from kdbench.efficiency.protocol import Protocol
from kdbench.efficiency.report import without_unknown_bounds
from kdbench.efficiency.samples import summarise

# What latencies and speed-ups are, in the words of ``rounds``; a change of that formula changes this.
FOOTING = "medians over rounds on the pace of the reference"


def restate(content: Mapping[str, Any], samples: pd.DataFrame) -> dict[str, Any]:
    """Return the content of a ``cost.json`` with its timings made anew from the samples beside it.

    A place without samples keeps the reason that it has. What was found then but not counted makes bounds of
    the counts, as it does today.
    """
    conditions = content["conditions"]
    protocol, reference = Protocol.from_json(conditions["protocol"]), conditions["reference"]
    metrics = {label: dict(values) for label, values in content["metrics"].items()}
    reasons = {label: dict(texts) for label, texts in content["reasons"].items()}
    intervals: dict[str, dict[str, Any]] = {label: {} for label in metrics}
    timed = set(samples[["model", "place"]].drop_duplicates().itertuples(index=False, name=None))
    for label, values in metrics.items():
        for place in protocol.dimensions.places(protocol.batch_sizes):
            if (label, place.name) not in timed:
                continue
            figures = summarise(samples, label, reference, place)
            values |= figures.values
            for name in figures.values:
                reasons[label].pop(name, None)
            reasons[label] |= figures.reasons
            intervals[label] |= figures.intervals
    counts = {label: _may_multiply(counted) for label, counted in conditions.get("counts", {}).items()}
    for label, calls in counts.items():
        metrics[label][UNCOUNTED] = calls
        without_unknown_bounds(metrics[label], reasons[label], counts.get(reference, 0))
    return {**content, "metrics": metrics, "reasons": reasons, "intervals": intervals, "footing": FOOTING}


def _may_multiply(counts: Mapping[str, Any]) -> int:
    """Return the calls that were not counted, without those of operators that multiply no matrices."""
    return sum(calls for name, calls in counts.get("uncounted", {}).items() if not is_plain(name))
