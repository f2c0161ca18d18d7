"""The cost of models, measured in a process of its own: what a caller asks for and what it gets back."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

import kdbench
from kdbench.efficiency.process import supervise
from kdbench.efficiency.protocol import Protocol
from kdbench.efficiency.report import CostReport, WorkerResult, build_report
from kdbench.efficiency.samples import SAMPLE_COLUMNS
from kdbench.efficiency.steps import BUILD
from kdbench.errors import UserError, unknown
from kdbench.machine import fingerprint, load_average, measuring_lock, versions
from kdbench.progress import Progress
from kdbench.store import read_json, write_json


@dataclass(frozen=True)
class ModelJob:
    """A model to measure: the label that results carry, its name, arguments, and trained weights if any."""

    label: str
    name: str
    args: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: str | None = None


def measure(
    models: Sequence[ModelJob],
    *,
    input_shape: Sequence[int],
    num_classes: int,
    reference: str | None = None,
    protocol: Protocol | None = None,
    progress: Progress | None = None,
) -> CostReport:
    """Count and time models against one another, in a fresh process under the machine's measuring lock.

    Args:
        models: what to measure.
        input_shape: (C, H, W).
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
        "input_shape": list(input_shape),
        "num_classes": num_classes,
        "reference": reference,
        "protocol": protocol.as_json(),
    }
    conditions: dict[str, Any] = {
        "reference": reference,
        "input_shape": list(input_shape),
        "precision": "fp32",
        "protocol": protocol.as_json(),
        "machine": fingerprint(),
        "versions": versions(),
    }
    lock = measuring_lock(protocol.lock_timeout_s) if protocol.devices else nullcontext()
    with lock:
        conditions |= {"started": _now(), "load_average_before": load_average()}
        result = _result(job, labels, protocol, progress, has_cuda=bool(conditions["machine"]["gpus"]))
        conditions |= {"finished": _now(), "load_average_after": load_average()}
    conditions |= {"threads": result.threads, "counts": result.counts}
    trained = {model.label for model in models if model.checkpoint is not None}
    return build_report(labels, reference, protocol, trained, result, conditions)


def _result(
    job: dict[str, Any], labels: Sequence[str], protocol: Protocol, progress: Progress, has_cuda: bool
) -> WorkerResult:
    """Run workers until one comes to its end; what ended a worker is left out of the next."""
    failures: dict[str, dict[str, str]] = {label: {} for label in labels}
    passes = len(protocol.batch_sizes) * sum(has_cuda or device != "cuda" for device in protocol.devices)
    while True:
        left = sum(BUILD not in failures[label] for label in labels)
        if not left:
            break
        with tempfile.TemporaryDirectory(prefix="kdbench-cost-") as name:
            folder = Path(name)
            progress.begin(f"measuring {left} models", max(1, passes), "pass")
            reason, culprit = _run_worker({**job, "failures": failures}, folder, protocol, progress)
            progress.end(reason or "done")
            if reason is None:
                samples = pd.read_parquet(folder / "latency.parquet")
                return WorkerResult(**read_json(folder / "result.json"), samples=samples)
        if culprit is None:
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

    def on_line(line: str) -> None:
        nonlocal culprit, passed
        event = json.loads(line)
        passed += event["event"] == "passed"
        # While models take turns, the last report does not tell whose turn it was.
        culprit = (event["label"], event["step"]) if event["event"] == "step" else None
        progress.advance(passed, " ".join(str(event[key]) for key in ("step", "label") if key in event))

    write_json(folder / "job.json", job)
    # The worker runs the same sources as this process, installed or not.
    path = [str(Path(kdbench.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    reason = supervise(
        [sys.executable, "-m", "kdbench.efficiency.worker", str(folder / "job.json"), str(folder)],
        on_line=on_line,
        timeout_s=protocol.timeout_s,
        stderr=folder / "stderr.txt",
        environment={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))},
    )
    return reason, culprit


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
