"""What the script on repeatability makes of its runs."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from kdbench.efficiency import CostReport
from kdbench.efficiency.repeats import Repeats

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "repeatability.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("repeatability", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["repeatability"] = module
    spec.loader.exec_module(module)
    return module


def run(script: ModuleType, aa: float, other: float, noise: str | None = None) -> CostReport:
    speedups = dict.fromkeys(script.MODELS, other) | {script.REFERENCE: 1.0, script.COPY: aa}
    metrics = {
        label: {"speedup_cpu_b1": speedup, "latency_cpu_b1_p50_ms": 10 / speedup}
        for label, speedup in speedups.items()
    }
    conditions = {"quiet": {"during": {"cpu_b1": {"noise": noise}}}}
    return CostReport(metrics, {}, pd.DataFrame(), conditions)


def test_rows_have_the_spread_of_speed_ups_and_the_copys_own(script: ModuleType) -> None:
    repeats = Repeats((run(script, 1.0, 2.0), run(script, 0.99, 2.08), run(script, 1.02, 1.98)))
    rows = {row.model: row for row in script.rows_of(repeats, (1,), {"resnet8": 1.03, "cnn_8": 0.9})}
    assert list(rows) == list(script.MODELS)
    row = rows["resnet8"]
    assert (row.runs, row.speedup, row.speedup_spread) == (3, 2.0, 0.04)
    assert (row.aa_speedup, row.aa_spread) == (1.0, pytest.approx(0.02))
    assert row.faults == []
    assert rows["cnn_8"].faults == ["timers 10.0%"]
    assert rows[script.COPY].speedup == 1.0
    assert not row.noisy


def test_what_is_beyond_its_limit_is_named_and_noise_is_told(script: ModuleType) -> None:
    repeats = Repeats((run(script, 1.0, 2.0), run(script, 1.05, 2.2, "loud"), run(script, 1.0, 2.0)))
    rows = list(script.rows_of(repeats, (1,), {}))
    assert rows[1].faults == ["speed-up 10.0%", "A/A 5.0%"]
    assert all(row.noisy for row in rows)
    text = "\n".join(script.table(rows, [run.noise for run in repeats.reports]))
    assert "- 2: cpu_b1: loud" in text
    assert "| resnet8 | 1 | 5 | 9.1% | 2.000 | 10.0% | – | speed-up 10.0%, A/A 5.0% |" in text
