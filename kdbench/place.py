"""Where a model is timed: device, batch size, threads, precision and runtime, with its name and its words."""

from __future__ import annotations

from dataclasses import dataclass

DEVICE_TITLES = {"cpu": "CPU", "cuda": "GPU"}
RUNTIME_TITLES = {
    "eager": "eager",
    "compile": "torch.compile",
    "export": "torch.export",
    "onnx": "ONNX Runtime",
    "graph": "CUDA graph",
}


@dataclass(frozen=True)
class Place:
    """One cell of the table of timings; ``threads`` None is the protocol's own number.

    The name is that of device and batch size, ``cpu_b1``; what differs from eager, fp32 and the protocol's
    threads is added to it: ``cpu_b1_t1_bf16_onnx``.
    """

    device: str
    batch: int
    threads: int | None = None
    precision: str = "fp32"
    runtime: str = "eager"

    @property
    def name(self) -> str:
        """The name as it stands in columns: ``cpu_b1``, ``cpu_b1_t1``, ``cpu_b256_onnx``."""
        precision = "" if self.precision == "fp32" else f"_{self.precision}"
        runtime = "" if self.runtime == "eager" else f"_{self.runtime}"
        return f"{self.turn}{precision}{runtime}"

    @property
    def turn(self) -> str:
        """The name of the pass that it is timed in, of which all precisions and runtimes are part."""
        threads = f"_t{self.threads}" if self.threads is not None else ""
        return f"{self.device}_b{self.batch}{threads}"

    @property
    def is_usual(self) -> bool:
        """Whether a model runs there as it does by default: eager, in fp32, with the protocol's threads."""
        return self == Place(self.device, self.batch)

    @property
    def words(self) -> str:
        """The words for it, which name what differs from eager fp32: ``CPU, batch 1, 1 thread``."""
        parts = [DEVICE_TITLES.get(self.device, self.device), f"batch {self.batch}"]
        if self.threads is not None:
            parts.append("1 thread" if self.threads == 1 else f"{self.threads} threads")
        if self.precision != "fp32":
            parts.append(self.precision)
        if self.runtime != "eager":
            parts.append(RUNTIME_TITLES[self.runtime])
        return ", ".join(parts)
