"""Peak memory: what a process grows by, and the report that comes of it."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import pytest
import torch

from kdbench import child
from kdbench.efficiency import ModelJob, Protocol, measure
from kdbench.efficiency import peak as module
from kdbench.efficiency.memory import resident_growth
from kdbench.efficiency.places import Dimensions
from kdbench.efficiency.report import WorkerResult
from kdbench.errors import UserError
from kdbench.inputs import InputSpec
from kdbench.progress import Progress
from kdbench.store import write_json

# The package's attribute of this name is the function.
MEASURE_MODULE = importlib.import_module("kdbench.efficiency.measure")
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="told by Linux only")
MODELS = """
import torch
from torch import nn


class Widens(nn.Module):
    def __init__(self, input_shape, num_classes):
        super().__init__()
        self.layer = nn.Linear(16, 2)

    def forward(self, images):
        print("noise on standard output")
        flat = images.flatten(1)
        wide = torch.ones(len(flat), 1 << 20)
        return self.layer(flat) + wide.mean()
"""


@LINUX
@pytest.mark.parametrize("mebibytes", [64, 160])
def test_growth_is_what_the_work_needs_at_once(mebibytes: int) -> None:
    def work() -> None:
        for _ in range(3):
            torch.ones(mebibytes, 1 << 18)

    grown = resident_growth(work) / 2**20
    # Blocks of this size are given back at once: three one after the other are never there together.
    assert mebibytes * 0.98 <= grown <= mebibytes + 8


@LINUX
def test_what_was_needed_before_is_not_counted() -> None:
    torch.ones(64, 1 << 18)
    assert resident_growth(lambda: None) < 4 * 2**20


def test_a_system_that_does_not_tell_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "_CLEAR", tmp_path / "none")
    with pytest.raises(UserError, match="only told by Linux"):
        resident_growth(lambda: None)


@LINUX
def test_memory_is_a_figure_or_has_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "models.py").write_text(MODELS)
    protocol = Protocol(
        batch_sizes=(8,),
        devices=("cpu",),
        min_samples=11,
        min_seconds=0.0,
        max_seconds=2.0,
        warmup_calls=1,
        warmup_seconds=0.0,
        probe_seconds=0.02,
        threads=1,
        dimensions=Dimensions(memory=True),
    )
    jobs = [ModelJob("widens", f"{tmp_path / 'models.py'}:Widens")]
    report = measure(jobs, inputs=InputSpec.image((1, 4, 4)), num_classes=2, protocol=protocol)
    # Eight rows of 4 MiB.
    assert 32 * 0.98 <= report.metrics["widens"]["memory_cpu_b8_peak_bytes"] / 2**20 <= 40
    assert report.reasons["widens"]["memory_cuda_b8_allocated_bytes"] == "memory on cuda was not asked for"
    assert report.metrics["widens"]["latency_cpu_b8_p50_ms"] > 0


def test_a_process_that_dies_costs_one_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    def supervise(command: list[str], **keywords: object) -> str | None:
        job = json.loads(Path(command[-2]).read_text())
        if job["batch"] == 8:
            return "the measuring process was killed by SIGSEGV"
        write_json(Path(command[-1]) / "memory.json", {"memory": {"memory_cpu_b1_peak_bytes": 4096}})
        return None

    monkeypatch.setattr(MEASURE_MODULE, "supervise", supervise)
    job = {"models": [{"label": "a"}, {"label": "b"}], "protocol": {"batch_sizes": [1, 8], "timeout_s": 1}}
    failures: dict = {"a": {}, "b": {"build": "no such model"}}
    result = WorkerResult(1, {}, failures, pd.DataFrame())
    MEASURE_MODULE.add_memory(job, ["cpu"], result, Progress())
    assert result.measured == {"a": {"memory_cpu_b1_peak_bytes": 4096}}
    assert result.failures["a"] == {"memory_cpu_b8": "the measuring process was killed by SIGSEGV"}


@LINUX
def test_the_process_writes_what_it_found_or_why_not(tmp_path: Path) -> None:
    job = {
        "model": {"name": "mlp_8", "args": {}, "checkpoint": None, "decisions": [], "weights": None},
        "inputs": InputSpec.image((1, 4, 4)).as_json(),
        "num_classes": 2,
        "device": "cpu",
        "batch": 512,
        "threads": 1,
    }
    (tmp_path / "job.json").write_text(json.dumps(job))
    command = child.command("kdbench.efficiency.memory", str(tmp_path / "job.json"), str(tmp_path))
    subprocess.run(command, check=True, capture_output=True)
    found = json.loads((tmp_path / "memory.json").read_text())
    assert list(found["memory"]) == ["memory_cpu_b512_peak_bytes"]
    assert found["memory"]["memory_cpu_b512_peak_bytes"] >= 0
