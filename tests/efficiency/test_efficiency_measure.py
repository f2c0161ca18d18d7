"""Measuring end to end: the worker, its deaths, and the report that comes of it."""

from __future__ import annotations

import importlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest
import torch

from kdbench.code.foreign import limit
from kdbench.efficiency import CostReport, ModelJob, Protocol, columns, measure
from kdbench.efficiency.counts import OF_THE_TRACE, Counts
from kdbench.efficiency.report import WorkerResult, build_report
from kdbench.efficiency.samples import SAMPLE_COLUMNS
from kdbench.efficiency.worker import measure_job
from kdbench.errors import UserError
from kdbench.inputs import InputSpec
from kdbench.progress import Progress

SMALL = InputSpec.image((1, 4, 4))

HAS_CUDA = torch.cuda.is_available()

MODELS = """
import os
import signal
import threading

from torch import nn


def linear(input_shape, num_classes, width=1):
    print("a factory may print")
    size = input_shape[0] * input_shape[1] * input_shape[2]
    return nn.Sequential(nn.Flatten(), nn.Linear(size, width), nn.Linear(width, num_classes))


def raises():
    raise ValueError("no such width")


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def hangs():
    threading.Event().wait()


class Ends(nn.Linear):
    def forward(self, x):
        raise SystemExit(0)


def ends():
    return Ends(16, 2)
"""


def tiny(**fields) -> Protocol:
    settings = {
        "batch_sizes": (1, 4),
        "min_samples": 11,
        "min_seconds": 0.0,
        "max_seconds": 2.0,
        "warmup_calls": 1,
        "warmup_seconds": 0.0,
        "threads": 1,
        "lock_timeout_s": 0.0,
        "probe_seconds": 0.02,
    }
    return Protocol(**{**settings, **fields})


class Told(Progress):
    """Remembers what a run told."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int, str]] = []
        self.steps: list[tuple[int, str]] = []

    def begin(self, label: str, total: int, unit: str) -> None:
        self.stages.append((label, total, unit))

    def advance(self, done: int, detail: str = "") -> None:
        self.steps.append((done, detail))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file of factories; the measuring lock is one of these tests' own."""
    folder = tmp_path_factory.mktemp("measure")
    path = folder / "factories.py"
    path.write_text(MODELS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        yield path


def measured(file: Path, *jobs: ModelJob, protocol: Protocol, told: Told | None = None) -> CostReport:
    return measure(
        jobs,
        inputs=SMALL,
        num_classes=2,
        reference="wide",
        protocol=protocol,
        progress=told,
    )


@pytest.fixture(scope="module")
def told() -> Told:
    return Told()


@pytest.fixture(scope="module")
def report(file: Path, told: Told) -> CostReport:
    """One model that kills the process, two good ones, one that raises."""
    return measured(
        file,
        ModelJob("deadly", f"{file}:killed"),
        ModelJob("wide", f"{file}:linear", {"width": 64}),
        ModelJob("narrow", f"{file}:linear", {"width": 2}),
        ModelJob("broken", f"{file}:raises"),
        protocol=tiny(),
        told=told,
    )


def test_every_column_is_there_or_has_its_reason(report: CostReport) -> None:
    names = [column.name for column in columns((1, 4))]
    for label in ("wide", "narrow", "broken", "deadly"):
        assert list(report.metrics[label]) == names
        missing = {name for name, value in report.metrics[label].items() if value is None}
        assert missing == set(report.reasons[label])
        assert all(report.reasons[label].values())


def test_counts_and_ratios(report: CostReport) -> None:
    wide, narrow = report.metrics["wide"], report.metrics["narrow"]
    assert (wide["params"], wide["macs"]) == (16 * 64 + 64 + 64 * 2 + 2, 16 * 64 + 64 * 2)
    assert (narrow["params"], narrow["macs"]) == (16 * 2 + 2 + 2 * 2 + 2, 16 * 2 + 2 * 2)
    assert (wide["compression_ratio"], wide["theoretical_speedup"]) == (1, 1)
    assert narrow["theoretical_speedup"] == wide["macs"] / narrow["macs"]
    assert narrow["compression_ratio"] == wide["size_bytes"] / narrow["size_bytes"]
    assert report.conditions["counts"]["wide"]["macs_by_operator"] == {"linear": wide["macs"]}
    assert report.reasons["wide"]["params_nonzero"] == "the model was measured at its initial weights"


def test_timings_follow_from_the_samples_that_are_kept(report: CostReport) -> None:
    samples = report.samples
    assert {name: str(kind) for name, kind in samples.dtypes.items()} == SAMPLE_COLUMNS
    assert set(samples["threads"]) == {1}
    there = samples.query("device == 'cpu' and batch == 4")
    medians = there.groupby(["round", "model"])["ms"].median().unstack().dropna()
    pace = medians["wide"] / report.metrics["wide"]["latency_cpu_b4_p50_ms"]
    expected = (medians["narrow"] / pace).median()
    metrics = report.metrics["narrow"]
    assert metrics["latency_cpu_b4_p50_ms"] == pytest.approx(expected)
    assert metrics["throughput_cpu_b4_per_s"] == pytest.approx(4000 / expected)
    assert there["ms"].min() > 0
    assert report.metrics["wide"]["speedup_cpu_b1"] == 1
    # The models of a round take turns: each round has samples of both.
    rounds = samples.query("device == 'cpu' and batch == 4").groupby("round")["model"].agg(set)
    assert len(rounds) >= 11
    assert all({"wide", "narrow"} <= present for present in rounds[:11])


def test_a_model_that_raises_costs_no_other_its_figures(report: CostReport) -> None:
    assert set(report.metrics["broken"].values()) == {None}
    reason = report.reasons["broken"]["params"]
    assert "could not be built: ValueError: no such width" in reason
    assert report.reasons["broken"]["latency_cpu_b1_p50_ms"] == reason


def test_a_model_that_kills_the_worker_costs_no_other_its_figures(report: CostReport) -> None:
    assert set(report.metrics["deadly"].values()) == {None}
    killed = "the measuring process was killed by SIGKILL, often a sign of too little memory"
    assert report.reasons["deadly"]["params"] == killed
    assert report.reasons["deadly"]["speedup_cpu_b4"] == killed


@pytest.mark.skipif(HAS_CUDA, reason="this machine has a CUDA device")
def test_without_cuda_its_columns_say_so(report: CostReport) -> None:
    for label in ("wide", "narrow"):
        cuda = {name: text for name, text in report.reasons[label].items() if "_cuda_" in name}
        assert len(cuda) == 10
        assert set(cuda.values()) == {"no CUDA device on this machine"}


def test_the_conditions_can_be_written_as_json(report: CostReport) -> None:
    conditions = json.loads(json.dumps(report.conditions, allow_nan=False))
    assert conditions["threads"] == 1
    assert conditions["versions"]["torch"]
    assert conditions["machine"]["cores_logical"] >= 1
    assert conditions["protocol"]["batch_sizes"] == [1, 4]
    assert conditions["load_average_before"] >= 0
    assert conditions["load_average_after"] >= 0


def test_progress_is_told_by_pass_and_model(report: CostReport, told: Told) -> None:
    passes = 4 if HAS_CUDA else 2
    assert told.stages == [(f"measuring {count} models", passes, "pass") for count in (4, 3)]
    assert (0, "build narrow") in told.steps
    assert (0, "cpu_b1 wide") in told.steps
    assert told.steps[-1][0] == passes


def test_a_model_that_hangs_is_killed_and_reported(file: Path) -> None:
    # The limit holds from the worker's first line on; until then it may take its time to load torch.
    limit(2.0)
    try:
        report = measured(file, ModelJob("wide", f"{file}:hangs"), protocol=tiny(devices=()))
    finally:
        limit(0)
    assert set(report.metrics["wide"].values()) == {None}
    assert report.reasons["wide"]["params"] == "the measuring process made no progress for 2 s and was killed"
    assert report.reasons["wide"]["latency_cpu_b1_p50_ms"] == "latency on cpu was not asked for"
    assert len(report.samples) == 0


# The package's attribute of this name is the function.
MEASURE_MODULE = importlib.import_module("kdbench.efficiency.measure")


@pytest.fixture
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **keywords: object) -> None:
        raise AssertionError("a worker was started")

    monkeypatch.setattr(MEASURE_MODULE, "supervise", refuse)


def test_who_ends_two_workers_is_not_tried_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers of this test die while they time ``wide``, and once it is left out, before any step."""
    jobs: list[dict] = []

    def dying(command: list[str], *, on_line, **keywords: object) -> str:
        job = json.loads(Path(command[-2]).read_text())
        jobs.append(job["failures"])
        on_line('{"event": "ready"}')
        if "build" not in job["failures"]["wide"]:
            on_line('{"event": "step", "label": "wide", "step": "cpu_b1"}')
        return f"death {len(jobs)}"

    monkeypatch.setattr(MEASURE_MODULE, "supervise", dying)
    report = measured(file, ModelJob("wide", "a"), ModelJob("narrow", "b"), protocol=tiny())
    assert jobs == [
        {"wide": {}, "narrow": {}},
        {"wide": {"cpu_b1": "death 1"}, "narrow": {}},
        {"wide": {"cpu_b1": "death 1", "build": "death 2"}, "narrow": {}},
    ]
    # Nobody was named in the third death, so it stands for everyone that was left.
    assert report.reasons["wide"]["params"] == "death 2"
    assert report.reasons["narrow"]["params"] == "death 3"


@pytest.mark.usefixtures("no_worker")
@pytest.mark.parametrize(
    ("labels", "reference", "message"),
    [
        ([], None, "there is no model to measure"),
        (["a", "a"], None, "model labels repeat: a, a"),
        (["teacher", "b"], "teachr", "unknown reference model 'teachr'. Did you mean 'teacher'?"),
    ],
)
def test_a_request_that_cannot_be_carried_out_is_refused(
    labels: list[str], reference: str | None, message: str
) -> None:
    jobs = [ModelJob(label, "mlp_8") for label in labels]
    with pytest.raises(UserError) as error:
        measure(jobs, inputs=SMALL, num_classes=2, reference=reference, protocol=tiny())
    assert str(error.value).startswith(message)


def job_of(*jobs: ModelJob, **fields) -> dict:
    return {
        "models": [vars(job) for job in jobs],
        "inputs": SMALL.as_json(),
        "num_classes": 2,
        "reference": None,
        "protocol": tiny(threads=None, **fields).as_json(),
        "failures": {},
    }


def test_the_worker_reports_its_steps_and_writes_the_result_last(file: Path, tmp_path: Path) -> None:
    events: list[dict] = []

    def emit(event: dict) -> None:
        assert not (tmp_path / "result.json").exists()
        events.append(event)

    job = job_of(ModelJob("a", f"{file}:linear"), devices=("cpu",), batch_sizes=(2,))
    measure_job(job, tmp_path, emit)
    assert events[:3] == [
        {"event": "step", "label": "a", "step": "build"},
        {"event": "step", "label": "a", "step": "count"},
        {"event": "step", "label": "a", "step": "cpu_b2"},
    ]
    assert events[3] == {"event": "round", "step": "cpu_b2", "round": 1, "rounds": 11}
    assert events[-1] == {"event": "passed", "step": "cpu_b2"}
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["failures"] == {"a": {}}
    assert result["counts"]["a"]["params"] == 16 + 1 + 2 + 2
    samples = pd.read_parquet(tmp_path / "latency.parquet")
    assert list(samples.columns) == list(SAMPLE_COLUMNS)
    assert set(samples["batch"]) == {2}


def test_a_model_that_ends_the_process_when_it_is_counted(file: Path, tmp_path: Path) -> None:
    measure_job(job_of(ModelJob("a", f"{file}:ends"), devices=()), tmp_path, lambda event: None)
    failures = json.loads((tmp_path / "result.json").read_text())["failures"]
    assert "SystemExit(0) in factories.py, line" in failures["a"]["count"]


def test_the_worker_does_not_repeat_what_ended_an_earlier_one(file: Path, tmp_path: Path) -> None:
    job = job_of(ModelJob("a", f"{file}:killed"), ModelJob("b", f"{file}:linear"), devices=())
    job["failures"] = {"a": {"build": "killed before"}, "b": {"count": "hung before"}}
    measure_job(job, tmp_path, lambda event: None)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["failures"] == job["failures"]
    assert result["counts"] == {}
    assert len(pd.read_parquet(tmp_path / "latency.parquet")) == 0


def test_given_weights_are_loaded_and_their_zeros_counted(file: Path, tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 1), torch.nn.Linear(1, 2))
    state = {name: torch.ones_like(value) for name, value in model.state_dict().items()}
    state["1.weight"][0, :10] = 0
    torch.save(state, tmp_path / "weights.pt")
    weights = str(tmp_path / "weights.pt")
    measure_job(
        job_of(ModelJob("a", f"{file}:linear", checkpoint=weights), devices=()), tmp_path, lambda e: None
    )
    assert json.loads((tmp_path / "result.json").read_text())["counts"]["a"]["params_nonzero"] == 21 - 10


def test_a_reference_that_failed_is_named_in_every_ratio() -> None:
    empty = pd.DataFrame(columns=list(SAMPLE_COLUMNS)).astype(SAMPLE_COLUMNS)
    counts = asdict(Counts(9, 9, 9, macs=0, size_bytes=100, reasons=dict.fromkeys(OF_THE_TRACE, "no trace")))
    result = WorkerResult(1, {"student": counts}, {"teacher": {"build": "too large"}, "student": {}}, empty)
    settings = tiny(devices=("cpu",), batch_sizes=(1,))
    conditions = {"machine": {"gpus": []}}
    reasons = build_report(["teacher", "student"], "teacher", settings, set(), result, conditions).reasons
    assert reasons["student"]["compression_ratio"] == "the reference 'teacher' has no size_bytes: too large"
    assert reasons["student"]["speedup_cpu_b1"] == "the reference 'teacher' was not timed: too large"
    assert reasons["teacher"]["compression_ratio"] == "too large"


def test_a_model_without_multiply_adds_has_no_theoretical_speedup() -> None:
    empty = pd.DataFrame(columns=list(SAMPLE_COLUMNS)).astype(SAMPLE_COLUMNS)
    counts = asdict(Counts(9, 9, 9, macs=0, size_bytes=100, reasons=dict.fromkeys(OF_THE_TRACE, "no trace")))
    result = WorkerResult(1, {"a": counts}, {"a": {}}, empty)
    report = build_report(["a"], "a", tiny(devices=()), {"a"}, result, {"machine": {"gpus": []}})
    assert report.reasons["a"]["theoretical_speedup"] == "the model's macs is zero"
    assert report.metrics["a"]["params_nonzero"] == 9


def test_counts_that_are_not_complete_make_bounds_of_the_ratios() -> None:
    empty = pd.DataFrame(columns=list(SAMPLE_COLUMNS)).astype(SAMPLE_COLUMNS)

    def reports(**uncounted: dict[str, int]) -> dict[str, dict[str, float | None]]:
        counts = {
            label: asdict(Counts(9, 9, 9, macs=macs, size_bytes=100, macs_fvcore=macs, uncounted=calls))
            for (label, calls), macs in zip(uncounted.items(), (100, 50), strict=True)
        }
        for entry in counts.values():
            entry |= {"activations": 5, "arithmetic_intensity": 1.5}
        result = WorkerResult(1, counts, {label: {} for label in counts}, empty)
        conditions = {"machine": {"gpus": []}}
        report = build_report(list(counts), "teacher", tiny(devices=()), set(), result, conditions)
        missing = report.reasons["student"].get("theoretical_speedup")
        return report.metrics | {"why": {"theoretical_speedup": missing}}

    found = reports(teacher={}, student={"aten::fft_rfft": 2, "my::mm": 1})
    assert (found["teacher"]["macs_uncounted"], found["student"]["macs_uncounted"]) == (0, 3)
    # The student's is an upper bound, which its column of uncounted calls says.
    assert found["student"]["theoretical_speedup"] == 2
    assert found["student"]["arithmetic_intensity"] is None
    assert found["teacher"]["arithmetic_intensity"] == 1.5
    found = reports(teacher={"my::mm": 1}, student={})
    assert found["student"]["theoretical_speedup"] is None
    assert found["why"]["theoretical_speedup"] == "the multiply-adds of the reference are a lower bound"
