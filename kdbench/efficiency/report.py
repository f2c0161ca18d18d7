"""The cost report: every cost column of every model, with a reason wherever a figure is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from kdbench.bounds import UNCOUNTED
from kdbench.efficiency.columns import columns, energy_name, memory_names, timing_names
from kdbench.efficiency.intervals import Bounds
from kdbench.efficiency.places import DEVICES
from kdbench.efficiency.protocol import Protocol
from kdbench.efficiency.samples import NO_REFERENCE, summarise
from kdbench.efficiency.steps import BUILD, COUNT, energy_step, memory_step

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
    ``metrics``, and those that are None are in ``reasons``. ``intervals`` holds the 95 % interval of each
    latency and speed-up; ``samples`` the raw latencies (columns: SAMPLE_COLUMNS); ``conditions`` the
    machine, the versions, the load, the protocol, under ``quiet`` what disturbed the timing, and under
    ``counts`` what the counts are made of, by label.
    """

    metrics: dict[str, dict[str, Number]]
    reasons: dict[str, dict[str, str]]
    samples: pd.DataFrame
    conditions: dict[str, Any]
    intervals: dict[str, dict[str, Bounds]] = field(default_factory=dict)

    @property
    def noise(self) -> dict[str, str]:
        """What was not quiet, by the pass (``cpu_b1``) whose timings are therefore in doubt."""
        passes = self.conditions.get("quiet", {}).get("during", {})
        return {name: quietness["noise"] for name, quietness in passes.items() if quietness["noise"]}


@dataclass(frozen=True)
class WorkerResult:
    """What the worker found: counts by label, and by label and step why something failed.

    ``measured`` holds memory and energy, by label and column. ``quiet`` tells what disturbed the machine
    before the timing and in each pass; ``gpu`` the state of the GPU around each of its passes;
    ``memory_formats`` in which memory format each model ran.
    """

    threads: int | None
    counts: dict[str, dict[str, Any]]
    failures: dict[str, dict[str, str]]
    samples: pd.DataFrame
    measured: dict[str, dict[str, float]] = field(default_factory=dict)
    quiet: dict[str, Any] = field(default_factory=dict)
    gpu: dict[str, Any] = field(default_factory=dict)
    memory_formats: dict[str, str] = field(default_factory=dict)


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
    intervals: dict[str, dict[str, Bounds]] = {}
    has_cuda = bool(conditions["machine"]["gpus"])
    cost_columns = columns(protocol.batch_sizes, protocol.dimensions)
    for label in labels:
        values: dict[str, Number] = {}
        why: dict[str, str] = {}
        _add_counts(values, why, result, label, label in trained)
        _add_ratios(values, why, result, label, reference)
        without_unknown_bounds(values, why, _uncounted(result, reference))
        intervals[label] = _add_timings(values, why, result, label, reference, protocol, has_cuda)
        _add_passes(values, why, result, label, protocol, has_cuda)
        metrics[label] = {column.name: values[column.name] for column in cost_columns}
        reasons[label] = {name: why[name] for name, value in metrics[label].items() if value is None}
    return CostReport(metrics, reasons, result.samples, conditions, intervals)


def _add_counts(
    values: dict[str, Number], why: dict[str, str], result: WorkerResult, label: str, trained: bool
) -> None:
    counts = result.counts.get(label)
    for name in COUNTED:
        values[name] = counts[name] if counts else None
        if values[name] is None:
            why[name] = _not_counted(result, label, name)
    values[UNCOUNTED] = _uncounted(result, label) if counts else None
    if counts is None:
        why[UNCOUNTED] = _not_counted(result, label, "macs")
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


def without_unknown_bounds(
    values: dict[str, Number], why: dict[str, str], uncounted_of_reference: float
) -> None:
    """Leave out the figures that counts which are not complete say nothing of, not even as a bound."""
    if values[UNCOUNTED] and values.get("arithmetic_intensity") is not None:
        values["arithmetic_intensity"] = None
        why["arithmetic_intensity"] = "not every operator that may multiply is counted"
    if uncounted_of_reference and values["theoretical_speedup"] is not None:
        values["theoretical_speedup"] = None
        why["theoretical_speedup"] = "the multiply-adds of the reference are a lower bound"


def _uncounted(result: WorkerResult, label: str | None) -> int:
    counts = result.counts.get(label or "", {})
    return sum(counts.get("uncounted", {}).values())


def _add_timings(
    values: dict[str, Number],
    why: dict[str, str],
    result: WorkerResult,
    label: str,
    reference: str | None,
    protocol: Protocol,
    has_cuda: bool,
) -> dict[str, Bounds]:
    """Add the timings of every place and return their intervals."""
    intervals: dict[str, Bounds] = {}
    for place in protocol.dimensions.places(protocol.batch_sizes):
        missing = _not_done(result.failures[label], place.device, place.name, protocol, has_cuda)
        if missing is not None:
            for name in timing_names(place).values():
                values[name], why[name] = None, missing
            continue
        figures = summarise(result.samples, label, reference, place)
        values.update(figures.values)
        why.update(figures.reasons)
        intervals |= figures.intervals
        lost = reference and _not_done(
            result.failures[reference], place.device, place.name, protocol, has_cuda
        )
        if lost:
            name = timing_names(place)["speedup"]
            values[name], why[name] = None, f"the reference '{reference}' was not timed: {lost}"
    return intervals


def _add_passes(
    values: dict[str, Number],
    why: dict[str, str],
    result: WorkerResult,
    label: str,
    protocol: Protocol,
    has_cuda: bool,
) -> None:
    """Add memory and energy."""
    measured = result.measured.get(label, {})
    for device in DEVICES:
        for batch in protocol.batch_sizes:
            steps = dict.fromkeys(memory_names(device, batch), memory_step(device, batch))
            steps[energy_name(device, batch)] = energy_step(device, batch)
            for name, step in steps.items():
                values[name] = measured.get(name)
                if values[name] is None:
                    reason = _not_done(result.failures[label], device, step, protocol, has_cuda)
                    why[name] = reason or "it was not asked for"


def _not_done(
    failures: Mapping[str, str], device: str, step: str, protocol: Protocol, has_cuda: bool
) -> str | None:
    """Return why a step on a device was not carried out; None where it was."""
    if device not in protocol.devices:
        quantity = step.partition("_")[0] if step.startswith(("memory_", "energy_")) else "latency"
        return f"{quantity} on {device} was not asked for"
    if device == "cuda" and not has_cuda:
        return NO_CUDA
    return failures.get(BUILD) or failures.get(step)


def _not_counted(result: WorkerResult, label: str, quantity: str) -> str:
    if label in result.counts:
        return result.counts[label]["reasons"][quantity]
    failed = result.failures[label]
    return failed[BUILD] if BUILD in failed else failed[COUNT]
