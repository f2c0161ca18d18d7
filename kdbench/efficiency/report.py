"""The cost report: every cost column of every model, with a reason wherever a figure is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
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
        figures = _Figures(label, reference, protocol, result, has_cuda)
        figures.add_counts(label in trained)
        figures.add_ratios()
        without_unknown_bounds(figures.values, figures.why, _uncounted(result, reference))
        intervals[label] = figures.add_timings()
        figures.add_passes()
        metrics[label] = {column.name: figures.values[column.name] for column in cost_columns}
        reasons[label] = {name: figures.why[name] for name, value in metrics[label].items() if value is None}
    return CostReport(metrics, reasons, result.samples, conditions, intervals)


@dataclass
class _Figures:
    """The figures of one model, and why there is none of a column."""

    label: str
    reference: str | None
    protocol: Protocol
    result: WorkerResult
    has_cuda: bool
    values: dict[str, Number] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)

    def add_counts(self, trained: bool) -> None:
        counts = self.result.counts.get(self.label)
        for name in COUNTED:
            self.values[name] = counts[name] if counts else None
            if self.values[name] is None:
                self.why[name] = self._not_counted(self.label, name)
        self.values[UNCOUNTED] = _uncounted(self.result, self.label) if counts else None
        if counts is None:
            self.why[UNCOUNTED] = self._not_counted(self.label, "macs")
        if counts and not trained:
            self._leave_out("params_nonzero", "the model was measured at its initial weights")
        for name in ("params_adapter", "params_training"):
            self._leave_out(name, "a model by itself says nothing of how it is trained")

    def add_ratios(self) -> None:
        for name, quantity in (("compression_ratio", "size_bytes"), ("theoretical_speedup", "macs")):
            own, other = self.values[quantity], self.result.counts.get(self.reference or "", {}).get(quantity)
            self.values[name] = other / own if own and other is not None else None
            if self.reference is None:
                self.why[name] = NO_REFERENCE
            elif own is None:
                self.why[name] = self.why[quantity]
            elif other is None:
                cause = self._not_counted(self.reference, quantity)
                self.why[name] = f"the reference '{self.reference}' has no {quantity}: {cause}"
            else:
                self.why[name] = f"the model's {quantity} is zero"

    def add_timings(self) -> dict[str, Bounds]:
        """Add the timings of every place and return their intervals."""
        intervals: dict[str, Bounds] = {}
        for place in self.protocol.dimensions.places(self.protocol.batch_sizes):
            names = timing_names(place)
            missing = self._not_done(self.label, place.device, place.name)
            if missing is not None:
                for name in names.values():
                    self._leave_out(name, missing)
                continue
            figures = summarise(self.result.samples, self.label, self.reference, place)
            self.values.update(figures.values)
            self.why.update(figures.reasons)
            intervals |= figures.intervals
            lost = self.reference and self._not_done(self.reference, place.device, place.name)
            if lost:
                self._leave_out(names["speedup"], f"the reference '{self.reference}' was not timed: {lost}")
        return intervals

    def add_passes(self) -> None:
        """Add memory and energy."""
        measured = self.result.measured.get(self.label, {})
        for device, batch in product(DEVICES, self.protocol.batch_sizes):
            steps = dict.fromkeys(memory_names(device, batch), memory_step(device, batch))
            steps[energy_name(device, batch)] = energy_step(device, batch)
            for name, step in steps.items():
                self.values[name] = measured.get(name)
                if self.values[name] is None:
                    self.why[name] = self._not_done(self.label, device, step) or "it was not asked for"

    def _leave_out(self, name: str, reason: str) -> None:
        self.values[name], self.why[name] = None, reason

    def _not_done(self, label: str, device: str, step: str) -> str | None:
        """Return why a step of a model on a device was not carried out; None where it was."""
        if device not in self.protocol.devices:
            quantity = step.partition("_")[0] if step.startswith(("memory_", "energy_")) else "latency"
            return f"{quantity} on {device} was not asked for"
        if device == "cuda" and not self.has_cuda:
            return NO_CUDA
        failures = self.result.failures[label]
        return failures.get(BUILD) or failures.get(step)

    def _not_counted(self, label: str, quantity: str) -> str:
        if label in self.result.counts:
            return self.result.counts[label]["reasons"][quantity]
        failures = self.result.failures[label]
        return failures[BUILD] if BUILD in failures else failures[COUNT]


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
