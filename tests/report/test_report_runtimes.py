"""Latency by runtime, side by side, and what is said of a machine that was not quiet."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from kdbench.analysis.costs import read_costs
from kdbench.analysis.summary import summarise
from kdbench.efficiency import columns
from kdbench.efficiency.places import Dimensions
from kdbench.report.headline import FOOTING, main_table
from kdbench.report.sections.runtimes import runtime_table
from kdbench.report.table import Table
from kdbench.report.writer import write_report

MISSING = "onnxruntime is not installed: pip install 'kdbench[onnx]'"
NOISY = "other processes used 40% of the processor time"
COLUMNS = {
    "latency_cpu_b1_onnx_p50_ms": "Latency p50, CPU, batch 1, ONNX Runtime",
    "latency_cpu_b256_onnx_p50_ms": "Latency p50, CPU, batch 256, ONNX Runtime",
    "latency_cuda_b1_onnx_p50_ms": "Latency p50, GPU, batch 1, ONNX Runtime",
    "latency_cpu_b1_t1_p50_ms": "Latency p50, CPU, batch 1, 1 thread",
    "latency_cpu_b1_t1_onnx_p50_ms": "Latency p50, CPU, batch 1, 1 thread, ONNX Runtime",
}
Write = Callable[..., Path]


def with_runtimes(run: Path) -> Path:
    """Add ONNX Runtime to a synthetic run: half of eager's latency, and none for ``gru_32`` on one thread."""
    columns = json.loads((run / "columns.json").read_text())
    more = {"family": "cost", "direction": "lower", "unit": "ms", "range": "(0, ∞)", "source": ""}
    columns += [{"name": name, "title": title, **more} for name, title in COLUMNS.items()]
    (run / "columns.json").write_text(json.dumps(columns))
    for path in run.glob("*/*/record.json"):
        record = json.loads(path.read_text())
        record["cost_id"] = "0123456789ab"
        if record["status"] == "ok":
            eager = record["metrics"]["latency_cpu_b1_p50_ms"]
            lacks = record["student"] == "gru_32"
            record["metrics"] |= {
                "latency_cpu_b1_onnx_p50_ms": eager / 2,
                "latency_cpu_b256_onnx_p50_ms": record["metrics"]["latency_cpu_b256_p50_ms"] * 2,
                "latency_cpu_b1_t1_p50_ms": eager * 1.5,
                "latency_cpu_b1_t1_onnx_p50_ms": None if lacks else eager,
                "latency_cuda_b1_onnx_p50_ms": None,
            }
            record["reasons"]["latency_cuda_b1_onnx_p50_ms"] = "no CUDA device on this machine"
            if lacks:
                record["reasons"]["latency_cpu_b1_t1_onnx_p50_ms"] = MISSING
        path.write_text(json.dumps(record))
    cost = {
        "metrics": {},
        "reasons": {},
        "intervals": {"cnn_4": {"latency_cpu_b1_onnx_p50_ms": [0.01, 0.02]}},
        "conditions": {
            "quiet": {
                "during": {
                    "cpu_b1": {"noise": NOISY},
                    "cpu_b1_t1": {"noise": None},
                    "cpu_b256": {"noise": None},
                }
            }
        },
    }
    folder = run / "costs" / "0123456789ab"
    folder.mkdir(parents=True)
    (folder / "cost.json").write_text(json.dumps(cost))
    return run


def row(table: Table, model: str, setting: str) -> dict[str, object]:
    for line in table.lines:
        texts = [cell.text for cell in line.cells]
        if texts[:2] == [model, setting]:
            return dict(zip([heading.key for heading in table.headings], line.cells, strict=True))
    raise AssertionError(f"no row for {model}, {setting}")


def test_runtimes_stand_side_by_side(write_run: Write) -> None:
    table = runtime_table(summarise(with_runtimes(write_run())))
    assert table is not None
    assert [heading.text for heading in table.headings] == [
        "model",
        "setting",
        "eager p50 ↓ (ms)",
        "ONNX Runtime p50 ↓ (ms)",
        "× ↑",
    ]
    # A row for each model and setting, however many methods trained it; nothing of CUDA was measured.
    assert len(table.lines) == 5 * 3
    cells = row(table, "cnn_4", "CPU, batch 1")
    assert cells["onnx_gain"].text == "2.00"
    assert cells["onnx"].raw["onnx_p50_ms"] == pytest.approx(cells["eager"].raw["eager_p50_ms"] / 2)
    assert cells["onnx"].raw["onnx_p50_low_ms"] == 0.01
    assert cells["onnx"].hint == "95 % interval 0.0100 to 0.0200"
    assert row(table, "cnn_4", "CPU, batch 256")["onnx_gain"].text == "0.500"
    assert table.lines[0].teacher


def test_what_is_missing_has_a_footnote_and_a_disturbed_pass_is_told_below(write_run: Write) -> None:
    table = runtime_table(summarise(with_runtimes(write_run())))
    assert table is not None
    lacking = row(table, "gru_32", "CPU, batch 1, 1 thread")
    assert lacking["onnx"].text == "–"
    assert table.notes[lacking["onnx"].note - 1] == MISSING
    assert lacking["onnx_gain"].text == "–"
    assert row(table, "cnn_4", "CPU, batch 1")["eager"].note is None
    assert table.legend[1] == FOOTING
    assert f"(cpu_b1: {NOISY})" in table.legend[2]


def test_a_run_in_eager_mode_only_has_no_such_table(synthetic_run: Path) -> None:
    assert runtime_table(summarise(synthetic_run)) is None


def test_the_headline_table_says_what_latencies_are_and_what_disturbed_them(write_run: Write) -> None:
    table = main_table(summarise(with_runtimes(write_run())))
    keys = [heading.key for heading in table.headings]
    assert table.lines[0].cells[keys.index("latency_cpu_b1_p50_ms")].note is None
    assert FOOTING in table.legend
    assert sum(NOISY in line for line in table.legend) == 1


def test_only_passes_that_are_shown_are_told_of(write_run: Write) -> None:
    costs = read_costs(summarise(with_runtimes(write_run())))
    sizes, every = (1, 16), Dimensions(("eager", "onnx"), ("fp32", "bf16"), threads=(1,), memory=True)
    known = {column.name: column for column in columns(sizes, every)}
    for name in ("speedup_cpu_b1", "latency_cpu_b1_p99_ms", "throughput_cpu_b1_bf16_onnx_per_s"):
        assert costs.disturbances([known[name], known["params"]]) == f"cpu_b1: {NOISY}"
    for name in ("speedup_cpu_b1_t1", "latency_cpu_b16_p50_ms", "latency_cuda_b1_p50_ms", "params"):
        assert costs.disturbances([known[name]]) is None
    assert costs.disturbances([known["memory_cpu_b1_peak_bytes"]]) is None, "it is measured apart"
    assert costs.interval("cnn_64", "cnn_4", "latency_cpu_b1_onnx_p50_ms") == (0.01, 0.02)
    assert costs.interval("cnn_64", "cnn_4", "params") is None


def test_the_report_shows_and_writes_the_table(write_run: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdbench.report.gallery.make_plates", lambda *arguments: [])
    page = write_report(with_runtimes(write_run()))
    assert "<h2>Latency by runtime</h2>" in page.read_text()
    assert "## Latency by runtime" in (page.parent / "report.md").read_text()
    text = (page.parent / "runtimes.csv").read_text()
    header = "teacher,model,device,batch,threads,precision,eager_p50_ms,eager_p50_low_ms,eager_p50_high_ms"
    assert text.startswith(header)
    assert (page.parent / "runtimes.tex").is_file()
