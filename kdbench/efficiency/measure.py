"""The cost of models, measured in a process of its own: what a caller asks for and what it gets back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from kdbench.child import command
from kdbench.code.foreign import current_limit
from kdbench.efficiency.process import TurnFile, supervise
from kdbench.efficiency.protocol import Protocol
from kdbench.efficiency.report import CostReport, WorkerResult, build_report
from kdbench.efficiency.samples import SAMPLE_COLUMNS
from kdbench.efficiency.steps import BUILD, COUNT, memory_step
from kdbench.errors import UserError, unknown
from kdbench.inputs import InputSpec
from kdbench.machine import fingerprint, load_average, measuring_lock, versions
from kdbench.progress import Progress
from kdbench.store import read_json, write_json
from kdbench.temporary import temporary_folder

# What a measuring process writes last.
RESULT, MEMORY = "result.json", "memory.json"


@dataclass(frozen=True)
class ModelJob:
    """A model to measure: the label that results carry, its name, arguments, and trained weights if any.

    ``decisions`` are those of compressors (`kdbench.methods.restructuring.Decided` as JSON), applied in order
    before the ``weights`` of what they made.
    """

    label: str
    name: str
    args: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: str | None = None
    decisions: Sequence[Mapping[str, Any]] = ()
    weights: str | None = None


def measure(
    models: Sequence[ModelJob],
    *,
    inputs: InputSpec,
    num_classes: int,
    reference: str | None = None,
    protocol: Protocol | None = None,
    progress: Progress | None = None,
) -> CostReport:
    """Count and time models against one another, in a fresh process under the machine's measuring lock.

    Args:
        models: what to measure.
        inputs: what the models are shown.
        num_classes: width of the last layer.
        reference: label of the model that ratios and speed-ups are taken to, usually the teacher.
        protocol: how to time; without devices only counts are taken, and no lock.
        progress: is told what happens.

    A model that fails, or kills or hangs the worker, has None for every figure that this cost it, with the
    reason; the others are then measured again without it.

    Raises:
        UserError: for no models, labels that repeat, a reference that is not among them; and where
            another process keeps the measuring lock for longer than the protocol waits.
    """
    protocol = protocol or Protocol()
    progress = progress or Progress()
    labels = [model.label for model in models]
    if not labels:
        raise UserError("there is no model to measure: name at least one.")
    if len(set(labels)) != len(labels):
        raise UserError(f"model labels repeat: {', '.join(sorted(labels))}. Give each model its own label.")
    if reference is not None and reference not in labels:
        raise unknown("reference model", reference, labels)
    job = {
        "models": [asdict(model) for model in models],
        "inputs": inputs.as_json(),
        "num_classes": num_classes,
        "reference": reference,
        "protocol": protocol.as_json(),
    }
    conditions: dict[str, Any] = {
        "reference": reference,
        "inputs": inputs.as_json(),
        "num_classes": num_classes,
        "precision": "fp32",
        "protocol": protocol.as_json(),
        "machine": fingerprint(),
        "versions": versions(),
    }
    devices = [device for device in protocol.devices if device == "cpu" or conditions["machine"]["gpus"]]
    with _lock(protocol, progress):
        conditions |= {"started": _now(), "load_average_before": load_average()}
        result = _result(job, labels, protocol, devices, progress)
        if protocol.dimensions.memory:
            add_memory(job, devices, result, progress)
        conditions |= {"finished": _now(), "load_average_after": load_average()}
    conditions |= {"threads": result.threads, "counts": result.counts, "quiet": result.quiet}
    conditions["memory_formats"] = result.memory_formats
    if result.gpu:
        conditions["gpu"] = result.gpu
    trained = {model.label for model in models if model.checkpoint or model.weights}
    report = build_report(labels, reference, protocol, trained, result, conditions)
    if report.noise:
        progress.warn(f"the machine was not quiet: {describe_noise(report.noise)}")
    return report


def _lock(protocol: Protocol, progress: Progress) -> AbstractContextManager[None]:
    """Return the lock under which anything is timed; counting needs none."""
    if not protocol.devices:
        return nullcontext()
    return measuring_lock(
        protocol.lock_timeout_s,
        on_wait=lambda: progress.note("another kdbench process is measuring on this machine: waiting for it"),
    )


def _result(
    job: dict[str, Any], labels: Sequence[str], protocol: Protocol, devices: list[str], progress: Progress
) -> WorkerResult:
    """Run workers until one comes to its end; what ended a worker is left out of the next."""
    failures: dict[str, dict[str, str]] = {label: {} for label in labels}
    counts = [len(protocol.dimensions.thread_counts(device)) for device in devices]
    passes = len(protocol.batch_sizes) * sum(counts)
    while True:
        left = sum(BUILD not in failures[label] for label in labels)
        if not left:
            break
        with temporary_folder("kdbench-cost-") as folder:
            progress.begin(f"measuring {left} models", max(1, passes), "pass")
            reason, culprit = _run_worker({**job, "failures": failures}, folder, protocol, progress)
            progress.end(reason or "done")
            if reason is None:
                samples = pd.read_parquet(folder / "latency.parquet")
                return WorkerResult(**read_json(folder / RESULT), samples=samples)
        if culprit is None or BUILD in failures[culprit[0]]:
            failures = {label: {BUILD: reason} | failed for label, failed in failures.items()}
        else:
            label, step = culprit
            # A model that ends a second worker is not tried a third time.
            failures[label][BUILD if failures[label] else step] = reason
    nothing = pd.DataFrame(columns=list(SAMPLE_COLUMNS)).astype(SAMPLE_COLUMNS)
    return WorkerResult(threads=None, counts={}, failures=failures, samples=nothing)


def _run_worker(
    job: dict[str, Any], folder: Path, protocol: Protocol, progress: Progress
) -> tuple[str | None, tuple[str, str] | None]:
    """Return why the worker failed, or None, and the model and step that it was at."""
    culprit: tuple[str, str] | None = None
    passed = 0

    def on_line(line: str) -> float | None:
        nonlocal culprit, passed
        event = json.loads(line)
        passed += event["event"] == "passed"
        # While models take turns, the last report does not tell whose turn it was; the file does.
        culprit = (event["label"], event["step"]) if event["event"] == "step" else None
        part = event["round"] / event["rounds"] if event["event"] == "round" else 0
        progress.advance(
            passed + min(part, 1), " ".join(str(event[key]) for key in ("step", "label") if key in event)
        )
        # What calls a factory, and a network for the first time.
        return current_limit() if culprit and culprit[1] in (BUILD, COUNT) else None

    reason = _run("kdbench.efficiency.worker", job, folder, protocol.timeout_s, RESULT, on_line)
    return reason, culprit or TurnFile.read(folder)


def _run(
    module: str,
    job: dict[str, Any],
    folder: Path,
    timeout_s: float,
    result: str,
    on_line: Callable[[str], float | None] = lambda line: None,
) -> str | None:
    """Run a module of kdbench on a job in a process of its own; return None, or why it did not succeed."""
    write_json(folder / "job.json", job)
    return supervise(
        command(module, str(folder / "job.json"), str(folder)),
        on_line=on_line,
        timeout_s=timeout_s,
        stderr=folder / "stderr.txt",
        result=folder / result,
    )


def add_memory(job: dict[str, Any], devices: Sequence[str], result: WorkerResult, progress: Progress) -> None:
    """Take the memory of every model at every batch size, each in a fresh process; add it to a result."""
    entries = [entry for entry in job["models"] if BUILD not in result.failures[entry["label"]]]
    cells = list(product(entries, devices, job["protocol"]["batch_sizes"]))
    if not cells:
        return
    progress.begin("taking memory", len(cells), "process")
    for done, (entry, device, batch) in enumerate(cells, start=1):
        own = {**job, "model": entry, "device": device, "batch": batch, "threads": result.threads}
        with temporary_folder("kdbench-memory-") as folder:
            reason = _run("kdbench.efficiency.memory", own, folder, job["protocol"]["timeout_s"], MEMORY)
            content: dict[str, Any] = {"reason": reason} if reason is not None else read_json(folder / MEMORY)
        if "memory" in content:
            result.measured.setdefault(entry["label"], {}).update(content["memory"])
        else:
            result.failures[entry["label"]][memory_step(device, batch)] = content["reason"]
        progress.advance(done, entry["label"])
    progress.end("done")


def describe_noise(noise: Mapping[str, str]) -> str:
    """Return what was not quiet in one line, by pass."""
    return "; ".join(f"{name}: {text}" for name, text in noise.items())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
