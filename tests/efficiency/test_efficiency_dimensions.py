"""Measuring in several runtimes and numbers of threads, and workers that end while models take turns."""

from __future__ import annotations

import importlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from kdbench.efficiency import CostReport, ModelJob, Protocol, measure
from kdbench.efficiency.energy import Rapl
from kdbench.efficiency.places import Dimensions, split_threads
from kdbench.efficiency.process import TurnFile
from kdbench.errors import UserError
from kdbench.inputs import InputSpec
from kdbench.place import Place
from kdbench.progress import Progress

SMALL = InputSpec.image((1, 4, 4))

# The package's attribute of this name is the function.
MEASURE_MODULE = importlib.import_module("kdbench.efficiency.measure")

MODELS = """
import os
import signal

from torch import nn


class Dies(nn.Module):
    def __init__(self, input_shape, num_classes, calls):
        super().__init__()
        self.layer = nn.Linear(16, num_classes)
        self.left = calls

    def forward(self, images):
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.layer(images.flatten(1))


def plain(input_shape, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(16, num_classes))
"""


def tiny(**fields) -> Protocol:
    settings = {
        "batch_sizes": (1,),
        "devices": ("cpu",),
        "min_samples": 11,
        "min_seconds": 0.0,
        "max_seconds": 2.0,
        "warmup_calls": 1,
        "warmup_seconds": 0.0,
        "probe_seconds": 0.02,
        "lock_timeout_s": 0.0,
    }
    return Protocol(**{**settings, **fields})


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("dimensions")
    path = folder / "factories.py"
    path.write_text(MODELS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        yield path


def test_who_ends_the_worker_while_models_take_turns_costs_no_other_its_figures(file: Path) -> None:
    jobs = [
        ModelJob("good", f"{file}:plain"),
        # Counting and warming up take some ten calls, the turns several hundred.
        ModelJob("bad", f"{file}:Dies", {"calls": 200}),
    ]
    report = measure(jobs, inputs=SMALL, num_classes=2, reference="good", protocol=tiny())
    killed = "the measuring process was killed by SIGKILL, often a sign of too little memory"
    assert report.reasons["bad"]["latency_cpu_b1_p50_ms"] == killed
    assert report.metrics["bad"]["params"] == 34
    assert report.metrics["good"]["latency_cpu_b1_p50_ms"] > 0
    assert report.metrics["good"]["speedup_cpu_b1"] == 1


def test_who_hangs_while_models_take_turns_is_named_by_the_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    failures: list[dict] = []

    def hanging(command: list[str], *, on_line, **keywords: object) -> str:
        failures.append(json.loads(Path(command[-2]).read_text())["failures"])
        on_line('{"event": "step", "label": "a", "step": "cpu_b1"}')
        on_line('{"event": "round", "step": "cpu_b1", "round": 1, "rounds": 11}')
        # The last line named nobody; b had its turn when the process fell silent.
        TurnFile(Path(command[-1])).write("b", "cpu_b1")
        return "the measuring process made no progress for 60 s and was killed"

    monkeypatch.setattr(MEASURE_MODULE, "supervise", hanging)
    jobs = [ModelJob("a", "mlp_8"), ModelJob("b", "mlp_8")]
    report = measure(jobs, inputs=SMALL, num_classes=2, protocol=tiny())
    silent = "the measuring process made no progress for 60 s and was killed"
    assert failures[:2] == [{"a": {}, "b": {}}, {"a": {}, "b": {"cpu_b1": silent}}]
    assert report.reasons["b"]["latency_cpu_b1_p50_ms"] == silent


class Told(Progress):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture(scope="module")
def told() -> Told:
    return Told()


@pytest.fixture(scope="module")
def report(file: Path, told: Told) -> CostReport:
    further = Dimensions(runtimes=("eager", "export"), threads=(1,), energy=True)
    jobs = [ModelJob("a", f"{file}:plain"), ModelJob("b", f"{file}:plain")]
    return measure(
        jobs,
        inputs=SMALL,
        num_classes=2,
        reference="a",
        protocol=tiny(dimensions=further),
        progress=told,
    )


def test_every_place_is_timed(report: CostReport) -> None:
    for name in ("cpu_b1", "cpu_b1_export", "cpu_b1_t1", "cpu_b1_t1_export"):
        assert report.metrics["b"][f"latency_{name}_p50_ms"] > 0
        low, high = report.intervals["b"][f"latency_{name}_p50_ms"]
        assert low <= report.metrics["b"][f"latency_{name}_p50_ms"] <= high
        assert report.metrics["b"][f"speedup_{name}"] > 0
    samples = report.samples
    assert set(samples.query("place == 'cpu_b1_t1'")["threads"]) == {1}
    assert set(samples.query("place == 'cpu_b1_export'")["runtime"]) == {"export"}
    # The runtimes of a batch size take turns in the same rounds.
    rounds = samples.query("place == ['cpu_b1', 'cpu_b1_export']").groupby("round")["place"].agg(set)
    assert all(found == {"cpu_b1", "cpu_b1_export"} for found in rounds[:11])


def test_how_quiet_it_was_is_in_the_conditions(report: CostReport, told: Told) -> None:
    found = report.conditions["quiet"]
    assert 1 <= len(found["before"]) <= 3
    assert list(found["during"]) == ["cpu_b1", "cpu_b1_t1"]
    assert all(entry["spread"] is not None for entry in found["during"].values())
    assert bool(report.noise) == bool(told.warnings)


def test_noise_is_told_by_pass() -> None:
    passes = {"cpu_b1": {"noise": "others"}, "cpu_b256": {"noise": None}}
    assert CostReport({}, {}, pd.DataFrame(), {"quiet": {"during": passes}}).noise == {"cpu_b1": "others"}
    assert CostReport({}, {}, pd.DataFrame(), {}).noise == {}


def test_energy_without_a_counter_says_so(report: CostReport) -> None:
    try:
        Rapl()
    except UserError as error:
        assert report.metrics["a"]["energy_cpu_b1_j"] is None
        assert report.reasons["a"]["energy_cpu_b1_j"] == str(error)
    else:
        assert report.metrics["a"]["energy_cpu_b1_j"] > 0


def test_the_last_turn_is_read_whatever_came_before(tmp_path: Path) -> None:
    assert TurnFile.read(tmp_path) is None
    turns = TurnFile(tmp_path)
    assert TurnFile.read(tmp_path) is None
    turns.write("a model with a long label", "cpu_b256_onnx")
    turns.write("größer", "cpu_b1")
    assert TurnFile.read(tmp_path) == ("größer", "cpu_b1")
    turns.clear()
    assert TurnFile.read(tmp_path) is None
    turns.write("b", "cpu_b1")
    assert TurnFile.read(tmp_path) == ("b", "cpu_b1")


def test_places_are_named_by_what_differs_from_the_default() -> None:
    assert Place("cpu", 1).name == "cpu_b1"
    assert Place("cuda", 256, runtime="graph").name == "cuda_b256_graph"
    assert Place("cpu", 1, threads=1, precision="bf16", runtime="onnx").name == "cpu_b1_t1_bf16_onnx"


def test_threads_as_they_are_given() -> None:
    assert split_threads([]) == split_threads(["all"]) == (None, ())
    assert split_threads([2]) == (2, ())
    assert split_threads([1, "all", 4]) == (None, (1, 4))
    with pytest.raises(UserError, match="threads 1, 2: of several numbers one must be 'all'"):
        split_threads([1, 2])
