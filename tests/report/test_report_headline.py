"""A run that is judged by another metric than top-1: nothing on the reading side needs to know top-1."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from kdbench.analysis.gap import gaps_recovered
from kdbench.analysis.summary import summarise
from kdbench.cli import app
from kdbench.errors import UserError
from kdbench.report import compare, gallery, rank, render, write_report
from kdbench.store import write_recorded
from tests.documents import edit, write_document

STUDENTS, METHODS, SEEDS = ("mlp", "cnn", "gru"), ("scratch", "kd", "at"), (0, 1, 2)
COLUMNS = [
    ("map", "Mean average precision", "task", "higher", "plain"),
    ("micro_f1", "Micro F1", "task", "higher", "percent"),
    ("coarse.map", "coarse: Mean average precision", "task", "higher", "plain"),
    ("params", "Parameters", "cost", "lower", "count"),
    ("latency_cpu_b1_p50_ms", "Latency p50, CPU, batch 1", "cost", "lower", "ms"),
]


def value(student: str, method: str, seed: int) -> float:
    gain = {"scratch": 0.0, "kd": 0.05, "at": 0.02}[method]
    return 0.6 + 0.05 * STUDENTS.index(student) + gain + 0.001 * seed + 0.0003 * len(student) * seed**2


def write(path: Path, **manifest: Any) -> Path:
    """Write the run of a target with several labels: no top-1, no agreement, no table by class."""
    cells = [(student, method, seed) for student in STUDENTS for method in METHODS for seed in SEEDS]
    rows: list[tuple[Any, ...]] = [
        ("teacher", None, None, 0, 0.9),
        *(("student", *c, value(*c)) for c in cells),
    ]
    ids = []
    for role, student, method, seed, score in rows:
        id = f"{path.name}-{student}-{method}-{seed}"
        place = 1 + STUDENTS.index(student) if student else 9
        record = {
            "schema": 2,
            "config": {},
            "id": id,
            "role": role,
            "status": "ok",
            "teacher": "big",
            "student": student,
            "method": method,
            "method_name": method,
            "seed": seed,
            "metrics": {
                "map": score,
                "micro_f1": score - 0.1,
                "coarse.map": score - 0.2,
                "params": 1000 * place,
                "latency_cpu_b1_p50_ms": 0.1 * place,
            },
        }
        folder = path / "nodes" / id
        history = "epoch,train_map,validation_map\n1,0.5,0.4\n2,0.6,0.5\n"
        files = write_recorded(folder / "history.csv", history)
        write_document(folder / "record.json", record | {"files": files})
        ids.append(id)
    keys = ("name", "title", "family", "direction", "scale")
    columns = [dict(zip(keys, entry, strict=True), range="[0, 1]", place=None) for entry in COLUMNS]
    columns[2] |= {"quantity": "map", "head": "coarse"}
    columns[-1] |= {"quantity": "latency_p50", "place": {"device": "cpu", "batch": 1}}
    (path / "columns.json").write_text(json.dumps(columns))
    content = {
        "suite": "labels",
        "dataset": "many",
        "headline": "map",
        "classes": ["a", "b", "c"],
        "input_shape": [1, 8, 8],
        "sizes": {"train": 100, "validation": 20, "test": 50},
        "teachers": ids[:1],
        "cells": ids[1:],
        "seeds": list(SEEDS),
        "machine": {"cpu": "a CPU"},
        "versions": {},
        "started": "2026-01-02T03:04:05+00:00",
    }
    (path / "run.json").write_text(json.dumps(content | manifest))
    return path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write(tmp_path / "labels")


def test_it_is_compared_by_its_own_headline(run: Path) -> None:
    rows = compare(run)
    best = {row["student"]: row for row in rows if row["method"] == "kd"}["gru"]
    assert best["map"] == pytest.approx(sum(value("gru", "kd", seed) for seed in SEEDS) / 3)
    assert best["metric"] == "map" and best["difference"] == pytest.approx(0.05)
    assert "top1" not in best
    console = Console(file=io.StringIO(), width=200)
    render(run, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "the best Mean average precision of 9 rows is gru by kd" in text
    assert "top-1" not in text


def test_it_is_reported_with_what_it_has(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "DPI", 15)
    failures: list[str] = []
    page = write_report(run, failed=failures.append)
    assert failures == []
    text = (page.parent / "report.md").read_text()
    assert "Mean average precision and cost on many" in (page.parent / "results.tex").read_text()
    assert "Mean average precision: differences from scratch" in text
    assert "mean average precision on the validation split" in text.lower()
    drawn = {path.stem for path in (page.parent / "figures").glob("*.svg")}
    assert drawn == {"accuracy_cost", "learning_curves", "critical_difference"}
    for name, reason in {
        "agreement": "no student has both an accuracy and an agreement with the teacher",
        "class_change": "no teacher has a recall per class",
        "corruption": "no student was shown corrupted images",
        "correctness": "no student has the four shares of correctness",
    }.items():
        assert f"{name.replace('_', chr(92) + '_')}: {reason}" in text
    assert "an example has several labels, not the one class that PIE are of" in text


def test_the_gap_is_of_shares_only(run: Path) -> None:
    reasons = {gap.recovered.reason for gap in gaps_recovered(summarise(run))}
    assert reasons == {"mean average precision is no share of test examples"}


def test_runs_are_ranked_by_the_headline_that_they_share(run: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "others", dataset="more", suite="others")
    assert rank([run, other])[0]["method"] == "kd"
    edit(other / "run.json", headline="micro_f1")
    with pytest.raises(UserError, match="judged by map and micro_f1: name one metric that all have"):
        rank([run, other])
    assert rank([run, other], metric="map")[0]["method"] == "kd"


def test_the_command_line_asks_the_run(run: Path) -> None:
    done = CliRunner().invoke(app, ["compare", str(run), "--json"])
    assert done.exit_code == 0, done.output
    assert {row["metric"] for row in json.loads(done.stdout)} == {"map"}


def test_a_further_head_is_judged_by_the_headline_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "drawings", dict)
    page = write_report(write(tmp_path / "heads", heads={"coarse": ["x", "y"]}), page="lean")
    with (page.parent / "results_coarse.csv").open() as file:
        rows = list(csv.DictReader(file))
    (best,) = [row for row in rows if (row["student"], row["method"]) == ("gru", "kd")]
    assert float(best["coarse.map"]) == pytest.approx(float(best["map"]) - 0.2)
    assert best["metric"] == "coarse.map"
    assert (
        "coarse: Mean average precision and cost on many" in (page.parent / "results_coarse.tex").read_text()
    )


def test_a_headline_that_the_run_lacks_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown metric 'mapp'\. Did you mean 'map'"):
        compare(write(tmp_path / "wrong", headline="mapp"))
