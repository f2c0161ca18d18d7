"""Percentiles, speed-up and columns from raw samples."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from kdbench.efficiency.columns import columns
from kdbench.efficiency.places import Dimensions, Place
from kdbench.efficiency.protocol import SAMPLES_NEEDED
from kdbench.efficiency.samples import SAMPLE_COLUMNS, percentiles, round_ratios, speedup, summarise


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(662, 2000))
def test_percentiles_are_those_of_numpy(seed: int, count: int) -> None:
    samples = np.random.default_rng(seed).lognormal(sigma=2, size=count)
    values, reasons = percentiles(samples)
    assert reasons == {}
    assert values == {f"p{q}": pytest.approx(np.percentile(samples, q)) for q in (50, 90, 99)}


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
    values, reasons = percentiles([1.0] * count)
    assert [name for name, value in values.items() if value is not None] == present
    assert sorted([*present, *reasons]) == ["p50", "p90", "p99"]
    if "p99" in reasons:
        assert reasons["p99"] == f"p99 needs 662 samples; {count} were taken"


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


def test_speed_up_is_the_median_over_rounds_and_drift_cancels() -> None:
    drift = [1.0, 1.1, 1.3, 2.0, 4.0, 8.0, 4.0, 2.0, 1.5, 1.2, 1.0]
    # One call of each round was disturbed, in the student more than in the teacher.
    ratio, reason = speedup(
        round_ratios(rounds_of([6 * d for d in drift]), rounds_of([2 * d for d in drift], 90.0))
    )
    assert reason is None
    assert ratio == pytest.approx(3.0)
    # Pooled medians would say otherwise once the rounds differ in number.
    ratio, _ = speedup(
        round_ratios(rounds_of([6 * d for d in [*drift, 50, 50, 50]]), rounds_of([2 * d for d in drift]))
    )
    assert ratio == pytest.approx(3.0)


def test_speed_up_needs_eleven_rounds_in_common() -> None:
    ratio, reason = speedup(round_ratios(rounds_of([6.0] * 20), rounds_of([2.0] * 10)))
    assert ratio is None
    assert reason == "the speed-up needs 11 rounds with the reference; 10 were timed"


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
        "latency_cpu_b8_p50_ms": 2.0,
        "latency_cpu_b8_p90_ms": None,
        "latency_cpu_b8_p99_ms": None,
        "throughput_cpu_b8_per_s": 8 / 0.002,
        "speedup_cpu_b8": pytest.approx(3.0),
    }
    # Rounds that are all alike leave no doubt about their median.
    assert found.intervals == {
        "latency_cpu_b8_p50_ms": (2.0, 2.0),
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
    assert found.reasons["throughput_cpu_b1_per_s"] == "p50 needs 11 samples; 0 were taken"
    assert found.reasons["speedup_cpu_b1"] == "the speed-up needs 11 rounds with the reference; 0 were timed"
    assert found.intervals == {}


def test_columns_stand_in_display_order() -> None:
    names = [column.name for column in columns((1, 256))]
    assert names[:12] == [
        "params",
        "params_nonzero",
        "params_trainable",
        "params_adapter",
        "params_training",
        "macs",
        "macs_fvcore",
        "activations",
        "arithmetic_intensity",
        "size_bytes",
        "compression_ratio",
        "theoretical_speedup",
    ]
    assert names[12:17] == [
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
    assert len(names) == len(set(names)) == 12 + 4 * 5
    for column in columns((1, 256)):
        if column.name == "arithmetic_intensity":
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
