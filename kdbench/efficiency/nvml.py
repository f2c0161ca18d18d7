"""What an NVIDIA GPU says of itself through NVML: energy, clocks, temperature, and what slows it down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kdbench.errors import UserError

# Bits of nvmlDeviceGetCurrentClocksEventReasons, by the names of the NVML reference.
SLOWED_BY = {
    0x1: "idle",
    0x2: "application clocks",
    0x4: "software power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
    0x100: "display clocks",
}


class Gpu:
    """The current CUDA device as NVML sees it."""

    def __init__(self) -> None:
        """Open the device; raises UserError where NVML or its Python package is missing or refuses."""
        try:
            import pynvml
        except ImportError:
            raise UserError("nvidia-ml-py is not installed: pip install 'kdbench[energy]'") from None
        import torch

        self._nvml = pynvml
        # CUDA and NVML number the devices differently; the UUID is the same.
        uuid = torch.cuda.get_device_properties(torch.cuda.current_device()).uuid
        try:
            pynvml.nvmlInit()
            self._device = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        except pynvml.NVMLError as error:
            raise UserError(f"NVML cannot be used: {error}") from None

    def joules(self) -> float:
        """Return the energy that the GPU has used since its driver was loaded; raises UserError."""
        try:
            return self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._device) / 1000
        except self._nvml.NVMLError as error:
            raise UserError(f"this GPU has no energy counter: {error}") from None

    def state(self) -> dict[str, Any]:
        """Return clocks, temperature, power and what slows the GPU down; None for what it does not tell."""
        nvml, device = self._nvml, self._device
        milliwatts = self._ask(lambda: nvml.nvmlDeviceGetPowerUsage(device))
        bits = self._ask(lambda: nvml.nvmlDeviceGetCurrentClocksEventReasons(device))
        return {
            "sm_clock_mhz": self._ask(lambda: nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_SM)),
            "memory_clock_mhz": self._ask(lambda: nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_MEM)),
            "temperature_c": self._ask(
                lambda: nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU)
            ),
            "power_w": None if milliwatts is None else milliwatts / 1000,
            "slowed_by": None if bits is None else [name for bit, name in SLOWED_BY.items() if bits & bit],
        }

    def _ask(self, question: Callable[[], int]) -> int | None:
        try:
            return question()
        except self._nvml.NVMLError:
            return None
