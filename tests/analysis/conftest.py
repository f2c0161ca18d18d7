"""Small run directories with the very numbers that a test asks for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from kdbench.analysis.summary import Summary, summarise

COLUMNS = (
    ("top1", "task", "higher", "[0, 1]"),
    ("nll", "task", "lower", "[0, ∞)"),
    ("both_right", "fidelity", "none", "[0, 1]"),
    ("agreement", "fidelity", "higher", "[0, 1]"),
    ("latency_cpu_b1_p50_ms", "cost", "lower", "(0, ∞)"),
)

# (student, method) -> seed -> value of the metric; None is a failed cell, text a null with that reason.
Cells = Mapping[tuple[str, str], Mapping[int, float | str | None]]


def make_record(
    role: str, student: str | None, method: str | None, seed: int, **fields: Any
) -> dict[str, Any]:
    base = {
        "id": f"{role}-{student}-{method}-{seed}",
        "role": role,
        "status": "ok",
        "reason": None,
        "teacher": "big",
        "student": student,
        "method": method,
        "seed": seed,
        "metrics": {},
        "reasons": {},
        "tables": {},
        "config": {},
    }
    return base | fields


def cell(student: str, method: str, seed: int, metric: str, value: float | str | None) -> dict[str, Any]:
    if value is None:
        return make_record("student", student, method, seed, status="failed", reason="out of memory")
    if isinstance(value, str):
        return make_record("student", student, method, seed, metrics={metric: None}, reasons={metric: value})
    return make_record("student", student, method, seed, metrics={metric: value})


@pytest.fixture
def write_records(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes teachers' and students' records as a run directory."""

    def write(*records: dict[str, Any], not_run: int = 0) -> Path:
        folders = {"teacher": "teachers", "student": "cells"}
        manifest: dict[str, Any] = {
            "suite": "tiny",
            "dataset": "digits",
            "teachers": [],
            "cells": ["never"] * not_run,
            "sizes": {"test": 100},
        }
        for entry in records:
            folder = tmp_path / folders[entry["role"]] / entry["id"]
            folder.mkdir(parents=True)
            (folder / "record.json").write_text(json.dumps(entry))
            manifest[folders[entry["role"]]].append(entry["id"])
        columns = [
            {"name": name, "title": name, "family": family, "direction": direction, "range": span}
            for name, family, direction, span in COLUMNS
        ]
        (tmp_path / "columns.json").write_text(json.dumps(columns))
        (tmp_path / "run.json").write_text(json.dumps(manifest))
        return tmp_path

    return write


@pytest.fixture
def record() -> Callable[..., dict[str, Any]]:
    """The function that makes a record: role, student, method, seed, and fields that differ."""
    return make_record


@pytest.fixture
def summary_of(write_records: Callable[..., Path]) -> Callable[..., Summary]:
    """A function that makes the summary of cells with given values of one metric."""

    def make(cells: Cells, metric: str = "top1") -> Summary:
        records = [
            cell(student, method, seed, metric, value)
            for (student, method), values in cells.items()
            for seed, value in values.items()
        ]
        return summarise(write_records(*records))

    return make
