"""The A/A check itself: what it counts, and that it runs."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from kdbench.analysis.rows import Row
from kdbench.store import Record, RunDirectory
from kdbench.suite import Suite
from tests.documents import list_files

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch):
    """A function that imports a module of the folder ``benchmarks``, which is no package."""

    def load(name: str) -> ModuleType:
        monkeypatch.syspath_prepend(str(BENCHMARKS))
        spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


def test_a_share_has_the_exact_binomial_interval(benchmark) -> None:
    share = benchmark("observed_shares").Share("x", 14, 200, at_most=0.05)
    exact = stats.binomtest(14, 200).proportion_ci(0.95, method="exact")
    assert share.interval == pytest.approx((exact.low, exact.high))
    assert share.holds
    assert not benchmark("observed_shares").Share("x", 30, 200, at_most=0.05).holds
    assert not benchmark("observed_shares").Share("x", 170, 200, at_least=0.95).holds
    assert benchmark("observed_shares").Share("x", 3, 200).holds is None


def test_the_simulated_truth_is_what_simulation_gives(benchmark) -> None:
    checks = benchmark("coverage_checks")
    ours, theirs = checks.outcomes(np.random.default_rng(0), 40, 5_000, 0.1, gain=0.3)
    assert (ours - theirs).mean() == pytest.approx(checks.true_difference(0.3, 0.1), abs=0.015)
    assert checks.true_difference(0.0, 0.1) == 0
    for kind in checks.KINDS:
        scores = checks._scores(kind, np.random.default_rng(1), (100_000,))
        assert (scores.mean(), scores.std()) == (pytest.approx(0, abs=0.02), pytest.approx(1, abs=0.02))


def write_cells(suite: Suite, out: Path) -> None:
    """Write what a run of the suite would: a student, trained from each seed, that differs by chance."""
    labels = np.arange(200) % 10
    manifest = {"suite": "aa", "dataset": "digits", "teachers": [], "cells": [], "sizes": {"test": 200}}
    for seed in suite.seeds:
        hits = np.random.default_rng(seed).random(200) < 0.9
        outcomes = pd.DataFrame({"label": labels, "predicted": np.where(hits, labels, (labels + 1) % 10)})
        folder = out / "nodes" / f"cell-{seed}"
        folder.mkdir(parents=True)
        outcomes.to_parquet(folder / "outcomes.parquet")
        cell = Record(f"cell-{seed}", "student", "ok", "t", seed, student="s", method="scratch")
        RunDirectory(out).write(replace(cell, metrics={"top1": float(hits.mean())}))
        manifest["cells"].append(cell.id)
    top1 = {"name": "top1", "title": "Top-1 accuracy", "family": "task", "direction": "higher"}
    (out / "columns.json").write_text(json.dumps([top1]))
    (out / "run.json").write_text(json.dumps(manifest))
    list_files(out)


def test_cells_are_compared_and_the_tables_written(benchmark, tmp_path, monkeypatch, capsys) -> None:
    aa = benchmark("aa")
    monkeypatch.setattr(aa.kdbench, "run", write_cells)
    monkeypatch.setattr(aa, "coverages", lambda repetitions: iter(()))
    arguments = ["--quick", "--json", "--run", str(tmp_path / "run"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["aa.py", *arguments])
    aa.main()
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((tmp_path / "out" / "aa.json").read_text())
    first, *_, family = found["A configuration against itself"]
    assert (first["n"], first["at_most"], family["n"]) == (8, 0.05, 3)
    assert "| 3 seeds against 3: a difference is shown | ≤ 5 % |" in (tmp_path / "out" / "aa.md").read_text()


def test_groups_of_one_comparison_share_no_cell(benchmark, summary_of_seeds) -> None:
    aa = benchmark("aa")
    row = summary_of_seeds(12)
    a, b = aa.group(row, 0, 3, "scratch"), aa.group(row, 3, 3, "method 1")
    assert not set(a.ids.values()) & set(b.ids.values())
    assert list(b.values["top1"].values()) == [0.3, 0.4, 0.5]
    assert tuple(b.values["top1"]) == b.seeds == (0, 1, 2)


@pytest.fixture
def summary_of_seeds():
    """A function that makes a row of n seeds whose top-1 is their number in tenths."""

    def make(n: int) -> Row:
        values = {"top1": {seed: seed / 10 for seed in range(n)}}
        ids = {seed: f"cell-{seed}" for seed in range(n)}
        return Row("student", "t", "s", "scratch", tuple(range(n)), 0, {}, values, {}, (), ids)

    return make
