"""Percentiles, speed-up and columns from raw samples."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from kdbench.efficiency.columns import columns
from kdbench.efficiency.places import Dimensions
from kdbench.efficiency.protocol import SAMPLES_NEEDED
from kdbench.efficiency.samples import SAMPLE_COLUMNS, read_samples, summarise
from kdbench.place import Place


@pytest.mark.parametrize(
    ("count", "present"),
    [
        (0, []),
        (10, []),
        (11, ["p50"]),
        (63, ["p50"]),
        (64, ["p50", "p90"]),
        (661, ["p50", "p90"]),
        (662, ["p50", "p90", "p99"]),
    ],
)
def test_percentiles_need_their_samples(count: int, present: list[str]) -> None:
    # One call a round up to eleven rounds, and all others in the last.
    rounds = np.minimum(np.arange(count), 10)
    samples = pd.DataFrame({"model": "a", "place": "cpu_b8", "round": rounds, "ms": 1.0})
    found = summarise(samples, "a", None, Place("cpu", 8))
    values = {name[-6:-3]: value for name, value in found.values.items() if name.endswith("_ms")}
    assert [name for name, value in values.items() if value is not None] == present
    assert {name[-6:-3] for name in found.reasons if name.endswith("_ms")} == set(values) - set(present)
    if present and "p99" not in present:
        assert found.reasons["latency_cpu_b8_p99_ms"] == f"p99 needs 662 samples; {count} were taken"


@pytest.mark.parametrize("percent", SAMPLES_NEEDED)
def test_the_counts_needed_follow_from_the_binomial_law(percent: int) -> None:
    # The fewest samples of which, with 99 % confidence, two or more exceed the true percentile.
    fewest = next(n for n in range(2, 1000) if binom.cdf(1, n, 1 - percent / 100) <= 0.01)
    assert SAMPLES_NEEDED[percent] == fewest


def rounds_of(medians: list[float], slowest: float = 3.0) -> pd.DataFrame:
    """Three calls a round: half its median, the median, ``slowest`` times it."""
    rows = [
        (round_, median * factor) for round_, median in enumerate(medians) for factor in (0.5, 1, slowest)
    ]
    return pd.DataFrame(rows, columns=["round", "ms"])


def samples_of(**medians: float) -> pd.DataFrame:
    frames = [
        rounds_of([median] * 11).assign(
            model=model, place="cpu_b8", device="cpu", batch=8, threads=1, precision="fp32", runtime="eager"
        )
        for model, median in medians.items()
    ]
    return pd.concat(frames)[list(SAMPLE_COLUMNS)].astype(SAMPLE_COLUMNS)


def test_the_timing_columns_of_a_model() -> None:
    found = summarise(samples_of(teacher=6.0, student=2.0), "student", "teacher", Place("cpu", 8))
    assert found.values == {
        "latency_cpu_b8_p50_ms": pytest.approx(2.0),
        "latency_cpu_b8_p90_ms": None,
        "latency_cpu_b8_p99_ms": None,
        "throughput_cpu_b8_per_s": pytest.approx(8 / 0.002),
        "speedup_cpu_b8": pytest.approx(3.0),
    }
    # Rounds that are all alike leave no doubt about their median.
    assert found.intervals == {
        "latency_cpu_b8_p50_ms": (pytest.approx(2.0), pytest.approx(2.0)),
        "speedup_cpu_b8": (pytest.approx(3.0), pytest.approx(3.0)),
    }
    assert found.reasons == {
        "latency_cpu_b8_p90_ms": "p90 needs 64 samples; 33 were taken",
        "latency_cpu_b8_p99_ms": "p99 needs 662 samples; 33 were taken",
    }


def test_without_a_reference_or_samples_the_reason_stands() -> None:
    found = summarise(samples_of(student=2.0), "student", None, Place("cpu", 8))
    assert found.values["speedup_cpu_b8"] is None
    assert found.reasons["speedup_cpu_b8"] == "no reference model was given"
    assert list(found.intervals) == ["latency_cpu_b8_p50_ms"]
    found = summarise(samples_of(student=2.0), "student", "student", Place("cpu", 1))
    assert set(found.values.values()) == {None}
    assert found.reasons["throughput_cpu_b1_per_s"] == "a latency needs 11 rounds; 0 were timed"
    assert found.reasons["speedup_cpu_b1"] == "the reference 'student' was not timed here"
    assert found.intervals == {}


def test_figures_need_eleven_rounds_beside_the_reference() -> None:
    samples = samples_of(teacher=6.0, student=2.0)
    found = summarise(
        samples[(samples["model"] == "teacher") | (samples["round"] < 10)],
        "student",
        "teacher",
        Place("cpu", 8),
    )
    assert set(found.values.values()) == {None}
    assert set(found.reasons.values()) == {"a latency needs 11 rounds; 10 were timed beside the reference"}


def test_samples_from_before_there_were_runtimes_get_their_place(tmp_path: Path) -> None:
    samples = samples_of(teacher=6.0)
    samples.drop(columns=["place", "precision", "runtime"]).to_parquet(tmp_path / "latency.parquet")
    pd.testing.assert_frame_equal(read_samples(tmp_path / "latency.parquet"), samples.reset_index(drop=True))


def test_columns_stand_in_display_order() -> None:
    names = [column.name for column in columns((1, 256))]
    assert names[:13] == [
        "params",
        "params_nonzero",
        "params_trainable",
        "params_adapter",
        "params_training",
        "macs",
        "macs_uncounted",
        "macs_fvcore",
        "activations",
        "arithmetic_intensity",
        "size_bytes",
        "compression_ratio",
        "theoretical_speedup",
    ]
    assert names[13:18] == [
        "latency_cpu_b1_p50_ms",
        "latency_cpu_b1_p90_ms",
        "latency_cpu_b1_p99_ms",
        "throughput_cpu_b1_per_s",
        "speedup_cpu_b1",
    ]
    assert [name for name in names if name.startswith("speedup")] == [
        "speedup_cpu_b1",
        "speedup_cpu_b256",
        "speedup_cuda_b1",
        "speedup_cuda_b256",
    ]
    assert len(names) == len(set(names)) == 13 + 4 * 5
    for column in columns((1, 256)):
        if column.name in ("arithmetic_intensity", "macs_uncounted"):
            assert column.direction == "none"
            continue
        better_high = column.name.startswith(("throughput", "speedup", "compression", "theoretical"))
        assert column.direction == ("higher" if better_high else "lower")
        assert column.family == "cost"
        assert column.title
        assert column.source
        assert column.unit == "ms" or not column.name.endswith("_ms")


def test_each_further_dimension_has_columns_of_its_own() -> None:
    further = Dimensions(("eager", "onnx", "graph"), ("fp32", "bf16"), (1,), memory=True, energy=True)
    before = {column.name for column in columns((1,))}
    titles = {column.name: column.title for column in columns((1,), further)}
    assert before < set(titles)
    assert titles["latency_cpu_b1_onnx_p50_ms"] == "Latency p50, CPU, batch 1, ONNX Runtime"
    assert (
        titles["speedup_cpu_b1_t1_bf16_onnx"]
        == "Measured speed-up, CPU, batch 1, 1 thread, bf16, ONNX Runtime"
    )
    assert {name for name in titles if name.startswith("memory_")} == {
        "memory_cpu_b1_peak_bytes",
        "memory_cuda_b1_allocated_bytes",
        "memory_cuda_b1_reserved_bytes",
    }
    assert {name for name in titles if name.startswith("energy_")} == {"energy_cpu_b1_j", "energy_cuda_b1_j"}
    places = [name for name in titles if name.startswith("speedup_")]
    # CPU: 2 numbers of threads, 2 precisions, 2 runtimes; CUDA: threads are not its own, but graphs are.
    assert len(places) == 8 + 6
    assert not any("cpu" in name and "graph" in name for name in places)
    assert not any("cuda" in name and "_t1" in name for name in places)


def test_columns_and_the_protocol_need_no_torch() -> None:
    code = "import sys, kdbench.efficiency as e; e.columns((1,)); e.Protocol(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
