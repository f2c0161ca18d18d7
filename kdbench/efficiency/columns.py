"""The columns of the cost family: what each is called, and what a reader must know of it."""

from __future__ import annotations

from collections.abc import Sequence

from kdbench.column import Column
from kdbench.efficiency.protocol import DEVICES, SAMPLES_NEEDED

_DEVICE_TITLES = {"cpu": "CPU", "cuda": "GPU"}
_MLPERF = "MLPerf Inference rules: early-stopping counts"


def columns(batch_sizes: Sequence[int]) -> list[Column]:
    """Return every column of the cost family, in the order in which tables show them."""
    timed = [
        column for device in DEVICES for batch in batch_sizes for column in _timing_columns(device, batch)
    ]
    return _COUNTS + timed


def is_timing(name: str) -> bool:
    """Return whether a column is of a timing, whichever device and batch size it is of."""
    return name.startswith(("latency_", "throughput_", "speedup_"))


def timing_names(device: str, batch: int) -> dict[str, str]:
    """Return the names of the timing columns of one device and batch size, by quantity."""
    place = f"{device}_b{batch}"
    names = {f"p{percent}": f"latency_{place}_p{percent}_ms" for percent in SAMPLES_NEEDED}
    return {**names, "throughput": f"throughput_{place}_per_s", "speedup": f"speedup_{place}"}


def _timing_columns(device: str, batch: int) -> list[Column]:
    names = timing_names(device, batch)
    place = f"{_DEVICE_TITLES[device]}, batch {batch}"
    latencies = [
        Column(names[f"p{percent}"], f"Latency p{percent}, {place}", "cost", "lower", "ms", "(0, ∞)", _MLPERF)
        for percent in SAMPLES_NEEDED
    ]
    return [
        *latencies,
        Column(
            names["throughput"],
            f"Throughput, {place}",
            "cost",
            "higher",
            "examples/s",
            "(0, ∞)",
            "batch / median latency",
        ),
        Column(
            names["speedup"],
            f"Measured speed-up, {place}",
            "cost",
            "higher",
            "×",
            "(0, ∞)",
            "median over rounds of the reference's median latency / the model's, same run",
        ),
    ]


_COUNTS = [
    Column("params", "Parameters kept at inference", "cost", "lower", "", "[0, ∞)", "torch"),
    Column("params_nonzero", "Parameters that are not zero", "cost", "lower", "", "[0, params]", "torch"),
    Column("params_trainable", "Parameters that are trained", "cost", "lower", "", "[0, ∞)", "torch"),
    Column("params_adapter", "Parameters of training only", "cost", "lower", "", "[0, ∞)", "torch"),
    Column("params_training", "All parameters of student and method", "cost", "lower", "", "[0, ∞)", "torch"),
    Column(
        "macs", "Multiply-adds, one example", "cost", "lower", "", "[0, ∞)", "fvcore; conv + matmul, 1 each"
    ),
    Column(
        "macs_fvcore",
        "Multiply-adds with norms and pooling",
        "cost",
        "lower",
        "",
        "[macs, ∞)",
        "fvcore; every operator that it has a rule for",
    ),
    Column(
        "activations",
        "Activations, one example",
        "cost",
        "lower",
        "",
        "[0, ∞)",
        "outputs of conv + matmul (Radosavovic et al., CVPR 2020)",
    ),
    Column(
        "arithmetic_intensity",
        "Arithmetic intensity, batch 1, fp32",
        "cost",
        "none",
        "FLOP/byte",
        "(0, ∞)",
        "2·MACs / bytes that conv + matmul read and write, uncached (roofline: Williams et al., 2009)",
    ),
    Column("size_bytes", "Size of the file", "cost", "lower", "bytes", "[0, ∞)", "safetensors"),
    Column(
        "compression_ratio",
        "Compression ratio",
        "cost",
        "higher",
        "×",
        "(0, ∞)",
        "reference bytes / bytes (Blalock et al., 2020)",
    ),
    Column(
        "theoretical_speedup",
        "Theoretical speed-up",
        "cost",
        "higher",
        "×",
        "(0, ∞)",
        "reference MACs / MACs (Blalock et al., 2020)",
    ),
]
