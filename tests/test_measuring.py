"""The command that measures, suites' measuring settings, and repeats."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable

import pandas as pd
import pytest
from rich.console import Console
from torch import nn
from typer.testing import CliRunner

from kdbench.cli import app, main
from kdbench.cli.cost_table import measure_rows, measure_table
from kdbench.efficiency import CostReport, Protocol, columns
from kdbench.efficiency.jobs import outputs
from kdbench.efficiency.places import Dimensions
from kdbench.efficiency.repeats import Repeats, spread
from kdbench.inputs import InputSpec
from kdbench.runner.amendments.measurement import protocol_of
from kdbench.suite import Suite
from kdbench.suite.measurements import MeasureEntry

Load = Callable[..., Suite]
KNOWN = columns((1, 4))


def report(latency: float, noise: str | None = None) -> CostReport:
    metrics = {"params": 10, "latency_cpu_b1_p50_ms": latency, "latency_cuda_b1_p50_ms": None}
    reasons = {"latency_cuda_b1_p50_ms": "no CUDA device on this machine"}
    conditions = {"quiet": {"during": {"cpu_b1": {"noise": noise}}}, "counts": {}}
    intervals = {"a": {"latency_cpu_b1_p50_ms": (latency - 0.1, latency + 0.1)}}
    return CostReport({"a": metrics}, {"a": reasons}, pd.DataFrame(), conditions, intervals)


def shown(repeats: Repeats) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(measure_table(repeats, KNOWN))
    return capture.get()


def test_the_spread_is_the_farthest_from_the_median() -> None:
    assert spread([1.0, 1.02, 0.95]) == 0.05
    assert spread([2.0, 2.0]) == 0.0
    assert spread([2.0]) is None
    assert spread([]) is None


def test_of_several_repeats_the_median_and_the_spread_are_shown() -> None:
    repeats = Repeats((report(1.0), report(1.25, "loud"), report(1.2)))
    (row,) = measure_rows(repeats, KNOWN)
    assert row["latency_cpu_b1_p50_ms"] == 1.2
    assert row["repeats"] == {"latency_cpu_b1_p50_ms": [1.0, 1.25, 1.2]}
    assert row["spread"] == {"latency_cpu_b1_p50_ms": pytest.approx(0.2 / 1.2, abs=1e-6)}
    assert row["params"] == 10
    assert row["noise"] == {"cpu_b1": "loud"}
    assert row["reasons"] == {"latency_cuda_b1_p50_ms": "no CUDA device on this machine"}
    text = shown(repeats)
    assert "1.2 ±16.7%" in text
    assert "medians of 3 runs" in text
    assert "the machine was not quiet: cpu_b1: loud" in text


def beside(teacher: float | None, student: float | None, speedup: float | None = None) -> CostReport:
    """A repeat with a teacher and a student, of batch 4."""
    rows = {"teacher": teacher, "student": student}
    metrics = {
        label: {
            "latency_cpu_b4_p50_ms": ms,
            "throughput_cpu_b4_per_s": None if ms is None else 4000 / ms,
            "speedup_cpu_b4": speedup if teacher is None or ms is None else teacher / ms,
        }
        for label, ms in rows.items()
    }
    reasons = {label: dict.fromkeys(values, "noise") for label, values in metrics.items()}
    return CostReport(metrics, reasons, pd.DataFrame(), {"reference": "teacher", "counts": {}})


def test_the_figures_of_several_repeats_agree_within_a_row() -> None:
    # The machine was twice as slow in the second repeat; medians by themselves would give 6 / 2.5.
    repeats = Repeats((beside(6.0, 2.0), beside(12.0, 4.2), beside(5.0, 2.5)))
    teacher, student = measure_rows(repeats, KNOWN)
    assert teacher["latency_cpu_b4_p50_ms"] == 6.0
    assert student["latency_cpu_b4_p50_ms"] == pytest.approx(6.0 * 0.35)
    assert student["speedup_cpu_b4"] == pytest.approx(1 / 0.35)
    assert student["throughput_cpu_b4_per_s"] == pytest.approx(4000 / 2.1)
    assert teacher["speedup_cpu_b4"] == 1
    assert student["repeats"]["latency_cpu_b4_p50_ms"] == [2.0, 4.2, 2.5]


def test_repeats_that_have_no_latency_leave_the_speed_ups() -> None:
    _, student = measure_rows(
        Repeats((beside(None, None, 2.0), beside(None, None, 3.0), beside(None, None, 2.5))), KNOWN
    )
    assert student["latency_cpu_b4_p50_ms"] is None
    assert student["speedup_cpu_b4"] == 2.5


def test_counts_that_are_not_complete_are_shown_as_bounds() -> None:
    values = {"macs": 24, "macs_uncounted": 2, "theoretical_speedup": 1.5, "params": 7}
    conditions = {"reference": None, "counts": {"a": {"uncounted": {"aten::fft_rfft": 2}}}}
    repeats = Repeats((CostReport({"a": values}, {"a": {}}, pd.DataFrame(), conditions),))
    (row,) = measure_rows(repeats, KNOWN)
    assert row["bounds"] == {"macs": "lower", "theoretical_speedup": "upper"}
    assert row["uncounted"] == {"aten::fft_rfft": 2}
    text = " ".join(shown(repeats).split())
    assert "≥ 24" in text and "≤ 1.5" in text and "≥ 7" not in text
    assert "a: ≥ and ≤ are bounds, for aten::fft_rfft (2×) may multiply and could not be counted" in text


def test_of_one_measurement_the_interval_is_shown() -> None:
    (row,) = measure_rows(Repeats((report(1.2),)), KNOWN)
    assert row["intervals"]["latency_cpu_b1_p50_ms"] == pytest.approx((1.1, 1.3))
    assert "repeats" not in row
    text = shown(Repeats((report(1.2),)))
    assert "1.2 [1.1–1.3]" in text
    assert "not quiet" not in text
    assert "missing: no CUDA device on this machine" in text


def test_another_number_of_outputs_than_classes_is_told() -> None:
    found = report(1.2)
    found.conditions.update(counts={"a": {"outputs": 10}}, num_classes=100)
    (row,) = measure_rows(Repeats((found,)), KNOWN)
    assert row["outputs_note"].startswith("it gives 10 outputs, not the 100 classes that were asked for")
    assert "a: it gives 10 outputs" in shown(Repeats((found,)))
    found.conditions.update(num_classes=10)
    (row,) = measure_rows(Repeats((found,)), KNOWN)
    assert row["outputs_note"] is None
    assert "outputs" not in shown(Repeats((found,)))


def test_the_outputs_of_a_model_are_counted() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 10))
    assert outputs(model, InputSpec.image((3, 2, 2))) == 10
    assert outputs(model, InputSpec.image((3, 4, 4))) is None, "it cannot take such images"


def test_the_command_measures_in_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Protocol] = []

    def fake(jobs, *, protocol, reference, **more):
        asked.append(protocol)
        found = report(1.0)
        labels = [job.label for job in jobs]
        return dataclasses.replace(
            found,
            metrics=dict.fromkeys(labels, found.metrics["a"]),
            reasons=dict.fromkeys(labels, found.reasons["a"]),
        )

    monkeypatch.setattr("kdbench.efficiency.measure", fake)
    options = ["--runtimes", "eager,onnx", "--threads", "1,all", "--precision", "fp32,bf16", "--memory"]
    arguments = ["measure", "resnet8", "--against", "resnet20", *options, "--repeat", "3", "--json"]
    result = CliRunner().invoke(app, [*arguments, "--device", "cpu"], catch_exceptions=False)
    assert result.exit_code == 0
    rows = json.loads(result.output)
    assert [row["model"] for row in rows] == ["resnet20", "resnet8"]
    assert len(asked) == 3
    assert asked[0] == Protocol(
        devices=("cpu",), dimensions=Dimensions(("eager", "onnx"), ("fp32", "bf16"), (1,), memory=True)
    )
    CliRunner().invoke(app, ["measure", "resnet8", "--threads", "1", "--counts-only"], catch_exceptions=False)
    assert asked[3] == Protocol(devices=(), threads=1)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--runtimes", "eager,onxx"], "unknown runtime 'onxx'. Did you mean 'onnx'?"),
        (["--runtimes", "onnx"], "runtimes must be distinct and have eager among them"),
        (["--precision", "bf16"], "precisions must be distinct and have fp32 among them"),
        (["--threads", "0"], "--threads 0: expected positive integers or 'all'"),
        (["--threads", "9" * 5000], "expected positive integers or 'all', for example 1 or 1,all; 4096 is"),
        (["--batch-sizes", "9" * 20], "--batch-sizes 99999999999999999999: expected positive integers"),
        (["--threads", "1,2"], "threads 1, 2: of several numbers one must be 'all'"),
        (["--counts-only", "--energy"], "--counts-only times nothing"),
    ],
)
def test_options_that_mean_nothing_give_one_line(
    options: list[str],
    expected: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["kdbench", "measure", "resnet8", *options])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    text = capsys.readouterr().err.strip()
    assert expected in text and "\n" not in text


def test_a_suite_that_says_nothing_of_dimensions_is_measured_as_before() -> None:
    protocol = protocol_of(MeasureEntry())
    assert protocol == Protocol(timeout_s=900.0)
    assert "dimensions" not in protocol.as_json()


def test_the_dimensions_of_a_suite_reach_the_protocol(small_suite: Load) -> None:
    settings = ("runtimes=[eager, onnx]", "threads=[1, all]", "memory=true", "precisions=[fp32, bf16]")
    entry = small_suite("measure.latency=true", *(f"measure.{text}" for text in settings)).measure
    protocol = protocol_of(entry)
    assert protocol.threads is None
    assert protocol.dimensions == Dimensions(("eager", "onnx"), ("fp32", "bf16"), (1,), memory=True)
    assert protocol_of(small_suite("measure.threads=2").measure).threads == 2
