"""The columns of the cost family: what each is called, and what a reader must know of it."""

from __future__ import annotations

from collections.abc import Sequence

from kdbench.bounds import UNCOUNTED
from kdbench.column import Column
from kdbench.efficiency.places import DEVICES, RUNTIME_TITLES, Dimensions, Place
from kdbench.efficiency.protocol import SAMPLES_NEEDED

_DEVICE_TITLES = {"cpu": "CPU", "cuda": "GPU"}
_MLPERF = "calls on the reference's pace; as many as MLPerf Inference's early stopping needs"
# Written out in ``rounds``.
_FOOTING = "median over rounds of the round's median / the reference's pace in that round"


def columns(batch_sizes: Sequence[int], dimensions: Dimensions | None = None) -> list[Column]:
    """Return every column of the cost family, in the order in which tables show them."""
    dimensions = dimensions or Dimensions()
    timed = [column for place in dimensions.places(batch_sizes) for column in _timing_columns(place)]
    cells = [(device, batch) for device in DEVICES for batch in batch_sizes]
    memory = [column for cell in cells for column in _memory_columns(*cell)] if dimensions.memory else []
    energy = [_energy_column(*cell) for cell in cells] if dimensions.energy else []
    return _COUNTS + timed + memory + energy


def is_timing(name: str) -> bool:
    """Return whether a column is measured by running the model, in whichever place."""
    return name.startswith(("latency_", "throughput_", "speedup_", "memory_", "energy_"))


def timing_names(place: Place) -> dict[str, str]:
    """Return the names of the timing columns of one place, by quantity."""
    names = {f"p{percent}": f"latency_{place.name}_p{percent}_ms" for percent in SAMPLES_NEEDED}
    return {**names, "throughput": f"throughput_{place.name}_per_s", "speedup": f"speedup_{place.name}"}


def memory_names(device: str, batch: int) -> tuple[str, ...]:
    """Return the names of the memory columns of one device and batch size."""
    quantities = ("peak",) if device == "cpu" else ("allocated", "reserved")
    return tuple(f"memory_{device}_b{batch}_{quantity}_bytes" for quantity in quantities)


def energy_name(device: str, batch: int) -> str:
    """Return the name of the energy column of one device and batch size."""
    return f"energy_{device}_b{batch}_j"


def _memory_columns(device: str, batch: int) -> list[Column]:
    where = f"{_DEVICE_TITLES[device]}, batch {batch}"
    described = {
        "cpu": [
            ("Peak memory of inference", "growth of resident memory over the loaded model, fresh process")
        ],
        "cuda": [
            ("Peak memory allocated", "torch.cuda.max_memory_allocated, weights included, fresh process"),
            ("Peak memory reserved", "torch.cuda.max_memory_reserved, weights included, fresh process"),
        ],
    }[device]
    return [
        Column(name, f"{title}, {where}", "cost", "lower", "bytes", "[0, ∞)", source)
        for name, (title, source) in zip(memory_names(device, batch), described, strict=True)
    ]


def _energy_column(device: str, batch: int) -> Column:
    return Column(
        energy_name(device, batch),
        f"Energy of one example, {_DEVICE_TITLES[device]}, batch {batch}",
        "cost",
        "lower",
        "J",
        "(0, ∞)",
        {
            "cpu": "RAPL, all packages, idle power included",
            "cuda": "NVML, the whole GPU, idle power included",
        }[device],
    )


def _where(place: Place) -> str:
    """Return the words for a place: ``CPU, batch 1``, and what differs from eager fp32."""
    parts = [_DEVICE_TITLES[place.device], f"batch {place.batch}"]
    if place.threads is not None:
        parts.append("1 thread" if place.threads == 1 else f"{place.threads} threads")
    if place.precision != "fp32":
        parts.append(place.precision)
    if place.runtime != "eager":
        parts.append(RUNTIME_TITLES[place.runtime])
    return ", ".join(parts)


def _timing_columns(place: Place) -> list[Column]:
    names, where = timing_names(place), _where(place)
    latencies = [
        Column(names[f"p{percent}"], f"Latency p{percent}, {where}", "cost", "lower", "ms", "(0, ∞)", source)
        for percent, source in zip(SAMPLES_NEEDED, (_FOOTING, _MLPERF, _MLPERF), strict=True)
    ]
    return [
        *latencies,
        Column(
            names["throughput"],
            f"Throughput, {where}",
            "cost",
            "higher",
            "examples/s",
            "(0, ∞)",
            "batch / latency p50",
        ),
        Column(
            names["speedup"],
            f"Measured speed-up, {where}",
            "cost",
            "higher",
            "×",
            "(0, ∞)",
            "latency p50 of the reference / latency p50, same run",
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
        UNCOUNTED,
        "Calls that may multiply and are not counted",
        "cost",
        "none",
        "",
        "[0, ∞)",
        "above 0 the multiply-adds are a lower bound",
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
