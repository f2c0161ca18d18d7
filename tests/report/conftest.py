"""A synthetic run directory: plausible numbers with a known structure, written without torch."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kdbench.store import write_recorded

QUALITY = [
    ("top1", "Top-1 accuracy", "task", "higher", "", "[0, 1]"),
    ("nll", "Negative log-likelihood", "task", "lower", "nats", "[0, ∞)"),
    ("ece", "Expected calibration error", "calibration", "lower", "", "[0, 1]"),
    ("agreement", "Agreement with the teacher", "fidelity", "higher", "", "[0, 1]"),
    ("cohen_kappa", "Cohen's kappa with the teacher", "fidelity", "higher", "", "(-∞, 1]"),
    ("error_consistency", "Error consistency with the teacher", "fidelity", "higher", "", "(-∞, 1]"),
    ("kl_teacher_student", "KL(teacher ‖ student)", "fidelity", "lower", "nats", "[0, ∞)"),
    ("both_right", "Both right", "fidelity", "none", "", "[0, 1]"),
    ("teacher_only", "Only the teacher right", "fidelity", "none", "", "[0, 1]"),
    ("student_only", "Only the student right", "fidelity", "none", "", "[0, 1]"),
    ("both_wrong", "Both wrong", "fidelity", "none", "", "[0, 1]"),
]
COST = [
    ("params", "Parameters", "lower", ""),
    ("macs", "Multiply-accumulates", "lower", ""),
    ("size_bytes", "Serialised size", "lower", "bytes"),
    ("latency_cpu_b1_p50_ms", "Median latency, CPU, batch 1", "lower", "ms"),
    ("latency_cpu_b1_p99_ms", "99th percentile of latency, CPU, batch 1", "lower", "ms"),
    ("speedup_cpu_b1", "Measured speed-up over the teacher, CPU, batch 1", "higher", ""),
    ("latency_cpu_b256_p50_ms", "Median latency, CPU, batch 256", "lower", "ms"),
    ("latency_cuda_b1_p50_ms", "Median latency, CUDA, batch 1", "lower", "ms"),
    ("speedup_cuda_b1", "Measured speed-up over the teacher, CUDA, batch 1", "higher", ""),
]
TEACHER = "cnn_64"
STUDENTS = ("mlp_64", "cnn_4", "cnn_8", "gru_32")
METHODS = ("scratch", "kd(temperature=1)", "kd(temperature=4)", "fitnet")
PARAMS = {"mlp_64": 4_810, "cnn_4": 1_250, "cnn_8": 4_400, "gru_32": 5_100, TEACHER: 278_324}
NO_GPU = "no CUDA device on this machine"


def columns() -> list[dict[str, str]]:
    keys = ("name", "title", "family", "direction", "unit", "range")
    quality = [dict(zip(keys, entry, strict=True), source="") for entry in QUALITY]
    best = [{**entry, "name": f"{entry['name']}_best_val"} for entry in quality]
    cost = [
        {"name": n, "title": t, "family": "cost", "direction": d, "unit": u, "range": "[0, ∞)", "source": ""}
        for n, t, d, u in COST
    ]
    return quality + best + cost


@dataclass(frozen=True)
class Synthetic:
    """What the synthetic run holds; every number is a function of these fields."""

    students: Sequence[str] = STUDENTS
    methods: Sequence[str] = METHODS
    seeds: Sequence[int] = (0, 1, 2)
    classes: Sequence[str] = tuple("0123456789")
    teachers: Sequence[str] = (TEACHER,)
    teacher_seeds: Sequence[int] = (0,)
    epochs: int = 12
    validation: int = 144
    test: int = 360
    failing: frozenset[tuple[str, str, int]] = frozenset({("gru_32", "fitnet", 2)})
    everything_fails: bool = False
    unfinished: int = 0
    corrupted: bool = True

    def write(self, path: Path) -> Path:
        teachers = [
            self._record("teacher", t, None, None, seed) for t in self.teachers for seed in self.teacher_seeds
        ]
        cells = [
            self._record("student", teacher, student, method, seed)
            for teacher in self.teachers
            for student in self.students
            for method in self.methods
            for seed in self.seeds
        ]
        _write(path / "columns.json", columns())
        _write(path / "run.json", self._manifest(teachers, cells))
        kept = cells[: len(cells) - self.unfinished]
        for kind, records in (("teachers", teachers), ("cells", kept)):
            for record in records:
                folder = path / kind / record["id"]
                if record["status"] == "ok":
                    record["files"] = write_recorded(folder / "history.csv", self._history(record))
                _write(folder / "record.json", record)
        return path

    def _manifest(self, teachers: list[dict[str, Any]], cells: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "suite": "synthetic",
            "description": "Four students of one teacher, four methods, on 8 × 8 digits.",
            "dataset": "digits",
            "classes": list(self.classes),
            "input_shape": [1, 8, 8],
            "sizes": {"train": 1293, "validation": self.validation, "test": self.test},
            "teachers": [record["id"] for record in teachers],
            "cells": [record["id"] for record in cells],
            "machine": {"cpu": "Example CPU <8 cores>", "cores": 8, "memory_gib": 31.2, "gpus": []},
            "versions": {"python": "3.11.9", "torch": "2.11.0", "numpy": "2.1.0"},
            "seeds": list(self.seeds),
            "kdbench": "0.1.0",
            "started": "2025-01-02T03:04:05+00:00",
        }

    def _record(
        self, role: str, teacher: str, student: str | None, method: str | None, seed: int
    ) -> dict[str, Any]:
        label = student or teacher
        id = f"{zlib.crc32(repr((role, teacher, student, method, seed)).encode()):012x}"
        record = {
            "schema": 1,
            "id": id,
            "role": role,
            "status": "ok",
            "reason": None,
            "dataset": "digits",
            "teacher": teacher,
            "student": student,
            "method": method,
            "method_name": method.split("(")[0] if method else None,
            "seed": seed,
            "cohort": f"{seed:012x}",
            "config": {},
            "metrics": {},
            "reasons": {},
            "tables": {},
            "best_epoch": None,
            "epochs": self.epochs,
            "durations": {"train_seconds": 3.0},
            "provenance": {
                "kdbench": "0.1.0",
                "git": "0123abc",
                "machine": {"cpu": "Example CPU <8 cores>"},
                "versions": {"torch": "2.11.0"},
                "data_checksum": "sha256:00ff",
                "device": "cpu",
                "precision": "fp32",
                "started": "2025-01-02T03:04:05+00:00",
                "finished": "2025-01-02T03:04:08+00:00",
            },
            "files": {},
        }
        if self.everything_fails or (student, method, seed) in self.failing:
            return {**record, "status": "failed", "reason": "loss is not finite at epoch 3 (nan)"}
        noise = np.random.default_rng(zlib.crc32(f"{label}{method}{seed}".encode()))
        accuracy = self._accuracy(role, label, method, seed, noise)
        metrics, reasons = self._quality(role, label, accuracy, noise)
        metrics |= {f"{name}_best_val": value for name, value in metrics.items()}
        reasons |= {f"{name}_best_val": reason for name, reason in reasons.items()}
        cost, cost_reasons = self._cost(label)
        record["metrics"], record["reasons"] = metrics | cost, reasons | cost_reasons
        spread = noise.normal(0, 0.02 if role == "teacher" else 0.05, len(self.classes))
        record["tables"] = {"recall_per_class": list(np.clip(accuracy + spread - spread.mean(), 0, 1))}
        if self.corrupted:
            record["tables"]["corruptions"] = self._corruptions(accuracy)
        return record

    def _corruptions(self, accuracy: float) -> dict[str, Any]:
        """Accuracy falls by one point a severity under noise, by three under blur."""
        fall = {"noise": 0.01, "blur": 0.03}
        by_severity = {name: [accuracy - step * s for s in (1, 3, 5)] for name, step in fall.items()}
        clean = {"accuracy": accuracy}
        return {"examples": 200, "severities": [1, 3, 5], "clean": clean, "accuracy": by_severity}

    def _accuracy(self, role: str, label: str, method: str | None, seed: int, noise: Any) -> float:
        if role == "teacher":
            return 0.985 + 0.001 * seed
        capacity = {"mlp_64": 0.951, "cnn_4": 0.902, "cnn_8": 0.957, "gru_32": 0.938}
        base = capacity.get(label, 0.90 + 0.06 * (zlib.crc32(label.encode()) % 100) / 100)
        gain = {"scratch": 0.0, "kd(temperature=1)": 0.004, "kd(temperature=4)": 0.013, "fitnet": -0.009}
        shared = np.random.default_rng(seed).normal(0, 0.004)
        step = gain.get(method or "", 0.012 * np.sin(zlib.crc32((method or "").encode())))
        return float(np.clip(base + step + shared + noise.normal(0, 0.0012), 0, 1))

    def _quality(
        self, role: str, label: str, accuracy: float, noise: Any
    ) -> tuple[dict[str, float | None], dict[str, str]]:
        values: dict[str, float | None] = {
            "top1": accuracy,
            "nll": 4 * (1 - accuracy),
            "ece": float(abs(noise.normal(0.025, 0.006))),
        }
        fidelity = [entry[0] for entry in QUALITY if entry[2] == "fidelity"]
        if role == "teacher":
            return values | dict.fromkeys(fidelity), dict.fromkeys(fidelity, "it is the teacher")
        both_wrong = 0.6 * min(1 - accuracy, 0.015)
        both_right = accuracy - (0.015 - both_wrong)
        right = [both_right, 0.985 - both_right, accuracy - both_right, both_wrong]
        agreement = both_right + 0.5 * both_wrong
        expected = accuracy * 0.985 + (1 - accuracy) * 0.015
        kappa = (both_right + both_wrong - expected) / (1 - expected)
        shared = [agreement, 1 - 1.11 * (1 - agreement), kappa, 3.5 * (1 - accuracy), *right]
        return values | dict(zip(fidelity, shared, strict=True)), {}

    def _cost(self, label: str) -> tuple[dict[str, float | None], dict[str, str]]:
        params = PARAMS.get(label, 1_000 + 37 * (zlib.crc32(label.encode()) % 2_000))
        factor = {"mlp": 1.0, "cnn": 30.0, "gru": 12.0}.get(label.split("_")[0], 9.0)
        macs = params * factor
        latency = 0.02 + macs / 4e7
        teacher = 0.02 + PARAMS[TEACHER] * 30 / 4e7
        values: dict[str, float | None] = {
            "params": params,
            "macs": macs,
            "size_bytes": 4 * params + 1_800,
            "latency_cpu_b1_p50_ms": latency,
            "latency_cpu_b1_p99_ms": latency * 1.4,
            "speedup_cpu_b1": teacher / latency,
            "latency_cpu_b256_p50_ms": 0.1 + macs / 4e5,
            "latency_cuda_b1_p50_ms": None,
            "speedup_cuda_b1": None,
        }
        return values, {name: NO_GPU for name, value in values.items() if value is None}

    def _history(self, record: dict[str, Any]) -> str:
        final = record["metrics"]["top1"]
        lines = ["epoch,lr,loss,train_top1,validation_top1,validation_nll,seconds"]
        for epoch in range(1, self.epochs + 1):
            progress = final * (1 - 0.8 * np.exp(-5 * epoch / self.epochs - 0.1 * record["seed"]))
            validation = f"{progress},{4 * (1 - progress)}" if self.validation else ","
            train = min(1.0, progress + 0.01)
            lines.append(f"{epoch},0.05,{2 * (1 - progress)},{train},{validation},0.2")
        return "\n".join(lines) + "\n"


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, allow_nan=False))


@pytest.fixture(scope="session")
def synthetic_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of the ordinary case; tests must not write into it."""
    return Synthetic().write(tmp_path_factory.mktemp("synthetic"))


@pytest.fixture
def write_run(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a synthetic run with other fields."""
    return lambda **fields: Synthetic(**fields).write(tmp_path / "run")
