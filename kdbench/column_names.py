"""What a column's name says, for those that do not say it themselves: the only place that reads names.

Columns of runs from before they held scale, head, epoch and place are completed here when they are read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kdbench.column import Column, Epoch, Scale
from kdbench.place import Place

_BEST = "_best_val"
_PLACED = re.compile(
    r"(?P<quantity>latency|throughput|speedup|memory|energy)_(?P<device>cpu|cuda)_b(?P<batch>\d+)"
    r"(?:_t(?P<threads>\d+))?(?:_(?P<precision>bf16))?(?:_(?P<runtime>compile|export|onnx|graph))?"
    r"(?:_(?P<part>p\d+|peak|allocated|reserved))?(?:_(?:ms|per_s|bytes|j))?"
)
_PLACED_SCALES: dict[str, Scale] = {
    "latency": "ms",
    "throughput": "rate",
    "speedup": "ratio",
    "memory": "bytes",
    "energy": "joule",
}
_SCALES: dict[Scale, str] = {
    "bytes": "size_bytes cohort_peak_bytes",
    "ratio": "theoretical_speedup compression_ratio",
    "count": (
        "params params_nonzero params_trainable params_adapter params_training macs macs_fvcore "
        "macs_uncounted activations"
    ),
    "percent": (
        "top1 top5 balanced_accuracy macro_f1 generalization_gap agreement agreement_independent "
        "agreement_excess both_right teacher_only student_only both_wrong retention churn "
        "retention_chance_corrected negative_flips positive_flips inherited_errors accuracy_many "
        "accuracy_few accuracy_medium corruption_accuracy_mean corruption_accuracy_drop agreement_corrupted"
    ),
}


def _scale_of(quantity: str) -> Scale:
    """Return the scale of a quantity that had none of its own before columns held one."""
    return next((scale for scale, names in _SCALES.items() if quantity in names.split()), "plain")


def is_timing(name: str) -> bool:
    """Return whether a name is that of a column that is measured by running a model, in whichever place.

    A record may hold such names that no column of its run has any more.
    """
    return _PLACED.fullmatch(name) is not None


def completed(entry: Mapping[str, Any]) -> Column:
    """Return the column of an entry of ``columns.json``, also of one that says only what its name says."""
    if "scale" in entry:
        return Column(**{**entry, "place": Place(**entry["place"]) if entry["place"] else None})
    head, _, name = entry["name"].rpartition(".")
    if match := _PLACED.fullmatch(name):
        quantity, scale, place = _placed(match)
        return Column(**entry, scale=scale, quantity=quantity, place=place)
    quantity = name.removesuffix(_BEST)
    epoch: Epoch = "last" if quantity == name else "best"
    return Column(**entry, scale=_scale_of(quantity), quantity=quantity, head=head, epoch=epoch)


def _placed(match: re.Match[str]) -> tuple[str, Scale, Place]:
    quantity, part = match["quantity"], match["part"]
    place = Place(
        match["device"],
        int(match["batch"]),
        int(match["threads"]) if match["threads"] else None,
        match["precision"] or "fp32",
        match["runtime"] or "eager",
    )
    return f"{quantity}_{part}" if part else quantity, _PLACED_SCALES[quantity], place
