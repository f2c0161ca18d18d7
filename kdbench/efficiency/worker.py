"""The process that measures: ``python -m kdbench.efficiency.worker JOB.json OUT_FOLDER``.

It builds the models by name, counts and times them, and writes ``latency.parquet`` and, last and
atomically, ``result.json``. What it is doing goes to standard output, one JSON object a line; whatever the
models print goes to standard error. A model that raises is reported for that step and the others go on.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from kdbench.efficiency.counts import count
from kdbench.efficiency.latency import Timing, failure, time_models
from kdbench.efficiency.protocol import Protocol
from kdbench.efficiency.samples import SAMPLE_COLUMNS
from kdbench.efficiency.steps import BUILD, COUNT, timing_step
from kdbench.models import build_model, load_checkpoint
from kdbench.store import read_json, write_atomic, write_json

Emit = Callable[[dict[str, Any]], None]

# A report while models are being timed wakes the parent; more often than this it would be felt.
_SECONDS_BETWEEN_REPORTS = 1.0


def measure_job(job: Mapping[str, Any], out: Path, emit: Emit) -> None:
    """Measure the models of a job and write the result into ``out``.

    ``job["failures"]`` holds the steps, by model, that ended an earlier process; they are not tried again.
    """
    protocol = Protocol.from_json(job["protocol"])
    failures: dict[str, dict[str, str]] = {
        model["label"]: dict(job["failures"].get(model["label"], {})) for model in job["models"]
    }
    if protocol.threads is not None:
        torch.set_num_threads(protocol.threads)
    models = _build(job, failures, emit)
    counts: dict[str, dict[str, Any]] = {}
    for label, model in models.items():
        if COUNT not in failures[label]:
            emit({"event": "step", "label": label, "step": COUNT})
            try:
                counts[label] = asdict(count(model, job["input_shape"]))
            except Exception as error:
                failures[label][COUNT] = failure(error)
    frames = [pd.DataFrame(columns=list(SAMPLE_COLUMNS))]
    for device in protocol.devices:
        if device == "cuda" and not torch.cuda.is_available():
            continue
        for batch in protocol.batch_sizes:
            step = timing_step(device, batch)
            ready = {label: model for label, model in models.items() if step not in failures[label]}
            timing = _time(ready, job, device, batch, protocol, emit)
            frames.append(_frame(timing, device, batch))
            emit({"event": "passed", "step": step})
            for label, reason in timing.failures.items():
                failures[label][step] = reason
    samples = pd.concat([frame for frame in frames if len(frame)] or frames[:1]).astype(SAMPLE_COLUMNS)
    write_atomic(out / "latency.parquet", samples.to_parquet(index=False))
    write_json(
        out / "result.json", {"threads": torch.get_num_threads(), "counts": counts, "failures": failures}
    )


def _build(job: Mapping[str, Any], failures: dict[str, dict[str, str]], emit: Emit) -> dict[str, nn.Module]:
    models: dict[str, nn.Module] = {}
    for entry in job["models"]:
        label = entry["label"]
        if BUILD in failures[label]:
            continue
        emit({"event": "step", "label": label, "step": BUILD})
        torch.manual_seed(0)
        try:
            model = build_model(
                entry["name"],
                input_shape=tuple(job["input_shape"]),
                num_classes=job["num_classes"],
                args=entry["args"],
            )
            if entry["checkpoint"] is not None:
                load_checkpoint(model, Path(entry["checkpoint"]))
            models[label] = model
        except Exception as error:
            failures[label][BUILD] = failure(error)
    return models


def _time(
    models: Mapping[str, nn.Module],
    job: Mapping[str, Any],
    device: str,
    batch: int,
    protocol: Protocol,
    emit: Emit,
) -> Timing:
    step = timing_step(device, batch)
    reported = float("-inf")

    def on_warm_up(label: str) -> None:
        emit({"event": "step", "label": label, "step": step})

    def on_turn(label: str, round_: int) -> None:
        nonlocal reported
        now = time.monotonic()
        if now - reported >= _SECONDS_BETWEEN_REPORTS:
            reported = now
            emit({"event": "round", "step": step, "round": round_ + 1, "rounds": protocol.rounds})

    try:
        inputs = _inputs(batch, job["input_shape"], device)
    except (RuntimeError, MemoryError) as error:
        return Timing(failures=dict.fromkeys(models, failure(error)))
    return time_models(
        models,
        inputs,
        protocol=protocol,
        reference=job["reference"],
        on_warm_up=on_warm_up,
        on_turn=on_turn,
    )


def _inputs(batch: int, shape: list[int], device: str) -> Tensor:
    return torch.randn(batch, *shape, generator=torch.Generator().manual_seed(0)).to(device)


def _frame(timing: Timing, device: str, batch: int) -> pd.DataFrame:
    rows = [(turn.model, turn.round, ms) for turn in timing.turns for ms in turn.ms]
    frame = pd.DataFrame(rows, columns=["model", "round", "ms"])
    frame = frame.assign(device=device, batch=batch, threads=torch.get_num_threads())
    return frame[list(SAMPLE_COLUMNS)]


def main() -> None:
    """Read the job that the command line names, measure it, and report on the original standard output."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # Whatever a model prints, from Python or from C, must not mix with the reports.
    os.dup2(2, 1)

    def emit(event: dict[str, Any]) -> None:
        channel.write(json.dumps(event) + "\n")
        channel.flush()

    emit({"event": "ready"})
    measure_job(read_json(Path(sys.argv[1])), Path(sys.argv[2]), emit)


if __name__ == "__main__":
    main()
