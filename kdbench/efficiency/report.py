"""The cost report: every cost column of every model, with a reason wherever a figure is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from kdbench.efficiency.columns import columns, timing_names
from kdbench.efficiency.protocol import DEVICES, Protocol
from kdbench.efficiency.samples import NO_REFERENCE, summarise
from kdbench.efficiency.steps import BUILD, COUNT, timing_step

NO_CUDA = "no CUDA device on this machine"
# What a worker's counts hold under the name of the column.
COUNTED = (
    "params",
    "params_trainable",
    "params_nonzero",
    "macs",
    "macs_fvcore",
    "activations",
    "arithmetic_intensity",
    "size_bytes",
)

Number = int | float | None


@dataclass(frozen=True)
class CostReport:
    """What models cost.

    ``metrics`` and ``reasons`` are by label, then by column; every column of the cost family is in
    ``metrics``, and those that are None are in ``reasons``. ``samples`` holds the raw latencies
    (model, device, batch, threads, round, ms); ``conditions`` the machine, the versions, the load, the
    protocol, and under ``counts`` what the counts are made of, by label.
    """

    metrics: dict[str, dict[str, Number]]
    reasons: dict[str, dict[str, str]]
    samples: pd.DataFrame
    conditions: dict[str, Any]


@dataclass(frozen=True)
class WorkerResult:
    """What the worker found: counts by label, and by label and step why something failed."""

    threads: int | None
    counts: dict[str, dict[str, Any]]
    failures: dict[str, dict[str, str]]
    samples: pd.DataFrame


def build_report(
    labels: Sequence[str],
    reference: str | None,
    protocol: Protocol,
    trained: set[str],
    result: WorkerResult,
    conditions: dict[str, Any],
) -> CostReport:
    """Derive every cost column from a worker's result; ``trained`` are the models with given weights."""
    metrics: dict[str, dict[str, Number]] = {}
    reasons: dict[str, dict[str, str]] = {}
    for label in labels:
        values: dict[str, Number] = {}
        why: dict[str, str] = {}
        _add_counts(values, why, result, label, label in trained)
        _add_ratios(values, why, result, label, reference)
        _add_timings(
            values, why, result, label, reference, protocol, has_cuda=bool(conditions["machine"]["gpus"])
        )
        metrics[label] = {column.name: values[column.name] for column in columns(protocol.batch_sizes)}
        reasons[label] = {name: why[name] for name, value in metrics[label].items() if value is None}
    return CostReport(metrics, reasons, result.samples, conditions)


def _add_counts(
    values: dict[str, Number], why: dict[str, str], result: WorkerResult, label: str, trained: bool
) -> None:
    counts = result.counts.get(label)
    for name in COUNTED:
        values[name] = counts[name] if counts else None
        if values[name] is None:
            why[name] = _not_counted(result, label, name)
    if counts and not trained:
        values["params_nonzero"] = None
        why["params_nonzero"] = "the model was measured at its initial weights"
    for name in ("params_adapter", "params_training"):
        values[name], why[name] = None, "a model by itself says nothing of how it is trained"


def _add_ratios(
    values: dict[str, Number], why: dict[str, str], result: WorkerResult, label: str, reference: str | None
) -> None:
    for name, quantity in (("compression_ratio", "size_bytes"), ("theoretical_speedup", "macs")):
        own = values[quantity]
        other = result.counts.get(reference, {}).get(quantity) if reference is not None else None
        values[name] = other / own if own and other is not None else None
        if reference is None:
            why[name] = NO_REFERENCE
        elif own is None:
            why[name] = why[quantity]
        elif other is None:
            cause = _not_counted(result, reference, quantity)
            why[name] = f"the reference '{reference}' has no {quantity}: {cause}"
        else:
            why[name] = f"the model's {quantity} is zero"


def _add_timings(
    values: dict[str, Number],
    why: dict[str, str],
    result: WorkerResult,
    label: str,
    reference: str | None,
    protocol: Protocol,
    has_cuda: bool,
) -> None:
    for device in DEVICES:
        for batch in protocol.batch_sizes:
            missing = _not_timed(result.failures[label], device, batch, protocol, has_cuda)
            if missing is not None:
                for name in timing_names(device, batch).values():
                    values[name], why[name] = None, missing
                continue
            found, reasons = summarise(result.samples, label, reference, device, batch)
            values.update(found)
            why.update(reasons)
            lost = reference and _not_timed(result.failures[reference], device, batch, protocol, has_cuda)
            if lost:
                name = timing_names(device, batch)["speedup"]
                values[name], why[name] = None, f"the reference '{reference}' was not timed: {lost}"


def _not_timed(
    failures: Mapping[str, str], device: str, batch: int, protocol: Protocol, has_cuda: bool
) -> str | None:
    if device not in protocol.devices:
        return f"latency on {device} was not asked for"
    if device == "cuda" and not has_cuda:
        return NO_CUDA
    return failures.get(BUILD) or failures.get(timing_step(device, batch))


def _not_counted(result: WorkerResult, label: str, quantity: str) -> str:
    if label in result.counts:
        return result.counts[label]["reasons"][quantity]
    failed = result.failures[label]
    return failed[BUILD] if BUILD in failed else failed[COUNT]
