"""Measuring what models cost, in a fresh process that has the machine to itself."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from kdbench import machine
from kdbench.efficiency.columns import timing_names
from kdbench.efficiency.process import supervise
from kdbench.efficiency.protocol import DEVICES, Protocol
from kdbench.efficiency.samples import SAMPLE_COLUMNS, summarise
from kdbench.progress import Progress
from kdbench.store import read_json, write_json

COUNTED = ("params", "params_nonzero", "macs", "size_bytes")
RATIOS = {"compression_ratio": "size_bytes", "theoretical_speedup": "macs"}
NO_ADAPTER = "a model by itself has no parameters of training only"

Metrics = dict[str, float | None]
Reasons = dict[str, str]


@dataclass(frozen=True)
class ModelJob:
    """A model to measure: its label in the results, a name that a suite accepts, and its arguments."""

    label: str
    name: str
    args: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CostReport:
    """What was measured: columns and reasons by label, the raw samples, and the conditions."""

    metrics: dict[str, Metrics]
    reasons: dict[str, Reasons]
    samples: pd.DataFrame
    conditions: dict[str, Any]


def measure(
    models: Sequence[ModelJob],
    *,
    input_shape: Sequence[int],
    num_classes: int,
    reference: str | None = None,
    protocol: Protocol | None = None,
    progress: Progress | None = None,
) -> CostReport:
    """Count and time models in a process of their own, one kdbench at a time on this machine.

    Args:
        models: what to measure.
        input_shape: (C, H, W).
        num_classes: width of the last layer.
        reference: label of the model that ratios and speed-ups refer to, usually the teacher.
        protocol: how to time; without devices only counts are taken.
        progress: is told what happens.

    A model that cannot be measured, and a process that dies or hangs, leave null columns with their reason.

    Raises:
        UserError: where another process measures for longer than the protocol waits.
    """
    protocol = protocol or Protocol()
    progress = progress or Progress()
    job = {
        "models": [asdict(model) for model in models],
        "input_shape": list(input_shape),
        "num_classes": num_classes,
        "reference": reference,
        "protocol": protocol.as_json(),
    }
    load_before = machine.load_average()
    result, samples, problem = _in_own_process(job, protocol, progress)
    metrics: dict[str, Metrics] = {}
    reasons: dict[str, Reasons] = {}
    for model in models:
        metrics[model.label], reasons[model.label] = _costs(
            model.label, reference, result, samples, protocol, problem
        )
    conditions = {
        "machine": machine.fingerprint(),
        "torch": torch.__version__,
        "threads": result.get("threads"),
        "load_average_before": load_before,
        "load_average_after": machine.load_average(),
        "protocol": protocol.as_json(),
        "problem": problem,
    }
    return CostReport(metrics, reasons, samples, conditions)


def _in_own_process(
    job: dict[str, Any], protocol: Protocol, progress: Progress
) -> tuple[dict[str, Any], pd.DataFrame, str | None]:
    """Return the worker's result, its samples, and why there is no result where there is none."""
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    passes = len(protocol.batch_sizes) * sum(device in devices for device in protocol.devices)
    done = 0

    def listen(line: str) -> None:
        nonlocal done
        try:
            message = json.loads(line)
            doing, what = message["doing"], message["what"]
        except (json.JSONDecodeError, TypeError, KeyError):
            return  # a model of the user's own may print
        done += doing == "done"
        progress.advance(done, f"{doing} {what}")

    with tempfile.TemporaryDirectory(prefix="kdbench-") as name, machine.measuring_lock(protocol.lock_timeout_s):
        folder = Path(name)
        write_json(folder / "job.json", job)
        progress.begin(f"measuring {len(job['models'])} models", max(1, passes), "pass")
        problem = supervise(
            [sys.executable, "-m", "kdbench.efficiency.worker", str(folder / "job.json"), str(folder)],
            on_line=listen,
            timeout_s=protocol.timeout_s,
            stderr=folder / "stderr.txt",
        )
        progress.end(problem or "done")
        if problem is None:
            return read_json(folder / "result.json"), pd.read_parquet(folder / "latency.parquet"), None
    return {}, pd.DataFrame(columns=list(SAMPLE_COLUMNS)).astype(SAMPLE_COLUMNS), problem


def _costs(
    label: str,
    reference: str | None,
    result: Mapping[str, Any],
    samples: pd.DataFrame,
    protocol: Protocol,
    problem: str | None,
) -> tuple[Metrics, Reasons]:
    failure = problem or result.get("failures", {}).get(label)
    counts = result.get("counts", {}).get(label, {})
    metrics: Metrics = {}
    reasons: Reasons = {}
    for name in COUNTED:
        metrics[name] = counts.get(name)
        if metrics[name] is None:
            reasons[name] = failure or counts.get("reasons", {}).get(name, "it could not be counted")
    metrics["params_adapter"], reasons["params_adapter"] = None, NO_ADAPTER
    base = result.get("counts", {}).get(reference, {})
    for name, of in RATIOS.items():
        mine, theirs = counts.get(of), base.get(of)
        metrics[name] = theirs / mine if mine and theirs else None
        if metrics[name] is None:
            reasons[name] = "no reference model was given" if reference is None else f"{of} is not known of both"
    for device in DEVICES:
        for batch in protocol.batch_sizes:
            values, why = _timing(label, reference, result, samples, protocol, failure, device, batch)
            metrics |= values
            reasons |= why
    return metrics, reasons


def _timing(
    label: str,
    reference: str | None,
    result: Mapping[str, Any],
    samples: pd.DataFrame,
    protocol: Protocol,
    failure: str | None,
    device: str,
    batch: int,
) -> tuple[Metrics, Reasons]:
    reason = failure
    if device not in protocol.devices:
        reason = f"latency on {device} was not asked for"
    elif device == "cuda" and not torch.cuda.is_available():
        reason = "no CUDA device on this machine"
    for entry in result.get("not_timed", []):
        if (entry["model"], entry["device"], entry["batch"]) == (label, device, batch):
            reason = entry["reason"]
    if reason is not None:
        names = timing_names(device, batch).values()
        return dict.fromkeys(names), dict.fromkeys(names, reason)
    return summarise(samples, label, reference, device, batch)
