"""The columns of the cost family: what each is called, and what a reader must know of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from kdbench.bounds import UNCOUNTED
from kdbench.column import Column, Direction, Scale
from kdbench.efficiency.places import DEVICES, Dimensions
from kdbench.efficiency.protocol import SAMPLES_NEEDED
from kdbench.place import Place

_MLPERF = "calls on the reference's pace; as many as MLPerf Inference's early stopping needs"
# Written out in ``rounds``.
_FOOTING = "median over rounds of the round's median / the reference's pace in that round"
_FRESH = "weights included, fresh process"
# What memory is taken of on a device: title and source.
_MEMORY = {
    "cpu": {
        "peak": (
            "Peak memory of inference",
            "growth of resident memory over the loaded model, fresh process",
        )
    },
    "cuda": {
        "allocated": ("Peak memory allocated", f"torch.cuda.max_memory_allocated, {_FRESH}"),
        "reserved": ("Peak memory reserved", f"torch.cuda.max_memory_reserved, {_FRESH}"),
    },
}


def columns(batch_sizes: Sequence[int], dimensions: Dimensions | None = None) -> list[Column]:
    """Return every column of the cost family, in the order in which tables show them."""
    dimensions = dimensions or Dimensions()
    timed = [column for place in dimensions.places(batch_sizes) for column in _timing_columns(place)]
    cells = [(device, batch) for device in DEVICES for batch in batch_sizes]
    memory = [column for cell in cells for column in _memory_columns(*cell)] if dimensions.memory else []
    energy = [_energy_column(*cell) for cell in cells] if dimensions.energy else []
    return _COUNTS + timed + memory + energy


def timing_names(place: Place) -> dict[str, str]:
    """Return the names of the timing columns of one place, by quantity."""
    names = {f"p{percent}": f"latency_{place.name}_p{percent}_ms" for percent in SAMPLES_NEEDED}
    return {**names, "throughput": f"throughput_{place.name}_per_s", "speedup": f"speedup_{place.name}"}


def memory_names(device: str, batch: int) -> tuple[str, ...]:
    """Return the names of the memory columns of one device and batch size."""
    return tuple(f"memory_{device}_b{batch}_{quantity}_bytes" for quantity in _MEMORY[device])


def energy_name(device: str, batch: int) -> str:
    """Return the name of the energy column of one device and batch size."""
    return f"energy_{device}_b{batch}_j"


def _memory_columns(device: str, batch: int) -> list[Column]:
    place, quantities = Place(device, batch), _MEMORY[device].items()
    return [
        _of_place(place, name, title, "bytes", source, "bytes", f"memory_{quantity}", range="[0, ∞)")
        for name, (quantity, (title, source)) in zip(memory_names(device, batch), quantities, strict=True)
    ]


def _energy_column(device: str, batch: int) -> Column:
    source = {"cpu": "RAPL, all packages", "cuda": "NVML, the whole GPU"}[device] + ", idle power included"
    name, title = energy_name(device, batch), "Energy of one example"
    return _of_place(Place(device, batch), name, title, "J", source, "joule", "energy")


def _timing_columns(place: Place) -> list[Column]:
    names = timing_names(place)
    latencies = [
        _of_place(
            place, names[f"p{percent}"], f"Latency p{percent}", "ms", source, "ms", f"latency_p{percent}"
        )
        for percent, source in zip(SAMPLES_NEEDED, (_FOOTING, _MLPERF, _MLPERF), strict=True)
    ]
    ratio = "latency p50 of the reference / latency p50, same run"
    ratios: tuple[tuple[str, str, str, str, Scale], ...] = (
        ("throughput", "Throughput", "examples/s", "batch / latency p50", "rate"),
        ("speedup", "Measured speed-up", "×", ratio, "ratio"),
    )
    return latencies + [
        _of_place(place, names[quantity], title, unit, source, scale, quantity, "higher")
        for quantity, title, unit, source, scale in ratios
    ]


def _of_place(
    place: Place,
    name: str,
    title: str,
    unit: str,
    source: str,
    scale: Scale,
    quantity: str,
    direction: Direction = "lower",
    range: str = "(0, ∞)",
) -> Column:
    title = f"{title}, {place.words}"
    return Column(name, title, "cost", direction, unit, range, source, scale, quantity, place=place)


def _of_counts(
    name: str,
    title: str,
    source: str,
    range: str = "[0, ∞)",
    direction: Direction = "lower",
    unit: str = "",
    scale: Scale = "count",
) -> Column:
    return Column(name, title, "cost", direction, unit, range, source, scale=scale)


_ratio = partial(_of_counts, range="(0, ∞)", direction="higher", unit="×", scale="ratio")
_COUNTS = [
    _of_counts("params", "Parameters kept at inference", "torch"),
    _of_counts("params_nonzero", "Parameters that are not zero", "torch", "[0, params]"),
    _of_counts("params_trainable", "Parameters that are trained", "torch"),
    _of_counts("params_adapter", "Parameters of training only", "torch"),
    _of_counts("params_training", "All parameters of student and method", "torch"),
    _of_counts("macs", "Multiply-adds, one example", "fvcore; conv + matmul, 1 each"),
    _of_counts(
        UNCOUNTED,
        "Calls that may multiply and are not counted",
        "above 0 the multiply-adds are a lower bound",
        direction="none",
    ),
    _of_counts(
        "macs_fvcore",
        "Multiply-adds with norms and pooling",
        "fvcore; every operator that it has a rule for",
        "[macs, ∞)",
    ),
    _of_counts(
        "activations",
        "Activations, one example",
        "outputs of conv + matmul (Radosavovic et al., CVPR 2020)",
    ),
    _of_counts(
        "arithmetic_intensity",
        "Arithmetic intensity, batch 1, fp32",
        "2·MACs / bytes that conv + matmul read and write, uncached (roofline: Williams et al., 2009)",
        "(0, ∞)",
        "none",
        "FLOP/byte",
        "plain",
    ),
    _of_counts("size_bytes", "Size of the file", "safetensors", unit="bytes", scale="bytes"),
    _ratio("compression_ratio", "Compression ratio", "reference bytes / bytes (Blalock et al., 2020)"),
    _ratio("theoretical_speedup", "Theoretical speed-up", "reference MACs / MACs (Blalock et al., 2020)"),
]
