"""Runs of a few records with the very figures that a test asks for, of any metric, with costs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

COLUMNS = (
    ("top1", "task", "higher", "Top-1 accuracy"),
    ("nll", "task", "lower", "Negative log-likelihood"),
    ("both_right", "fidelity", "none", "Both right"),
    ("latency_cpu_b1_p50_ms", "cost", "lower", "Latency"),
    ("macs", "cost", "lower", "Multiply-adds"),
    ("params", "cost", "lower", "Parameters"),
    ("macs_uncounted", "cost", "lower", "Calls that were not counted"),
)
LATENCY, MACS, PARAMS, _ = (name for name, family, *_ in COLUMNS if family == "cost")
# Per model: the teacher is 10 times as slow as the cnn, which is twice as slow as the mlp.
COSTS: dict[str, dict[str, float | None]] = {
    "big": {LATENCY: 2.0, MACS: 30e6, PARAMS: 300e3},
    "cnn": {LATENCY: 0.2, MACS: 1e6, PARAMS: 5e3},
    "mlp": {LATENCY: 0.1, MACS: 1e5, PARAMS: 1e5},
}


def make_record(
    role: str,
    teacher: str,
    student: str | None,
    method: str | None,
    seed: int,
    metric: str,
    value: float | None,
    costs: Mapping[str, Mapping[str, float | None]],
) -> dict[str, Any]:
    known = costs.get(student or teacher, {})
    return {
        "id": f"{role}-{teacher}-{student}-{method}-{seed}",
        "role": role,
        "status": "ok" if value is not None else "failed",
        "reason": None if value is not None else "loss is not finite",
        "teacher": teacher,
        "student": student,
        "method": method,
        "method_name": method,
        "seed": seed,
        "metrics": {metric: value} | known,
        "reasons": {},
        "tables": {},
        "config": {},
        "cost_id": "c",
    }


def write_run(path: Path, records: Sequence[Mapping[str, Any]], not_run: int, test: int) -> None:
    folders = {"teacher": "teachers", "student": "cells"}
    manifest: dict[str, Any] = {
        "suite": "tiny",
        "dataset": "digits",
        "sizes": {"test": test},
        "teachers": [],
        "cells": ["never"] * not_run,
    }
    for entry in records:
        folder = path / folders[entry["role"]] / entry["id"]
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(json.dumps(entry))
        manifest[folders[entry["role"]]].append(entry["id"])
    columns = [dict(zip(("name", "family", "direction", "title"), entry, strict=True)) for entry in COLUMNS]
    (path / "columns.json").write_text(json.dumps(columns))
    (path / "run.json").write_text(json.dumps(manifest))
