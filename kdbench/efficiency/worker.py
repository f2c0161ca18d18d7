"""The isolated process that counts and times models: ``python -m kdbench.efficiency.worker JOB OUT``.

It reads the job from a JSON file, prints its progress as lines of JSON, and writes ``latency.parquet`` and,
last, ``result.json`` into the folder OUT. A model that raises is reported with its reason.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from kdbench.efficiency.counts import count
from kdbench.efficiency.latency import failure, time_models
from kdbench.efficiency.protocol import Protocol
from kdbench.efficiency.samples import SAMPLE_COLUMNS
from kdbench.models import build_model
from kdbench.store import read_json, write_atomic, write_json


def work(job: dict[str, Any], out: Path) -> None:
    """Build, count and time the models of a job, and write what was found into a folder."""
    protocol = Protocol.from_json(job["protocol"])
    if protocol.threads is not None:
        torch.set_num_threads(protocol.threads)
    shape = tuple(job["input_shape"])
    models: dict[str, nn.Module] = {}
    counts: dict[str, dict[str, Any]] = {}
    failures: dict[str, str] = {}
    for entry in job["models"]:
        label = entry["label"]
        _say("count", label)
        try:
            model = build_model(
                entry["name"], input_shape=shape, num_classes=job["num_classes"], args=entry["args"]
            )
            counts[label] = asdict(count(model, shape))
            models[label] = model
        except Exception as error:
            failures[label] = failure(error)
    samples, not_timed = _time(models, shape, protocol, job["reference"])
    write_atomic(out / "latency.parquet", samples.to_parquet(index=False))
    write_json(
        out / "result.json",
        {
            "counts": counts,
            "failures": failures,
            "not_timed": not_timed,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        },
    )


def _time(
    models: dict[str, nn.Module], shape: tuple[int, ...], protocol: Protocol, reference: str | None
) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Return the raw samples, and which model could not be timed where, with the reason."""
    rows = []
    not_timed = []
    threads = torch.get_num_threads()
    for device in protocol.devices:
        if device == "cuda" and not torch.cuda.is_available():
            continue
        for batch in protocol.batch_sizes:
            timing = time_models(
                models,
                torch.randn(batch, *shape, device=device),
                protocol=protocol,
                reference=reference,
                on_warm_up=lambda label: _say("warm up", label),
                on_turn=lambda label, round_: _say("time", label),
            )
            rows += [
                (turn.model, device, batch, threads, turn.round, ms) for turn in timing.turns for ms in turn.ms
            ]
            not_timed += [
                {"model": label, "device": device, "batch": batch, "reason": reason}
                for label, reason in timing.failures.items()
            ]
            _say("done", f"{device}, batch {batch}")
    return pd.DataFrame(rows, columns=list(SAMPLE_COLUMNS)).astype(SAMPLE_COLUMNS), not_timed


def _say(doing: str, what: str) -> None:
    sys.stdout.write(json.dumps({"doing": doing, "what": what}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    work(read_json(Path(sys.argv[1])), Path(sys.argv[2]))
