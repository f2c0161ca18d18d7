"""Energy by counters: RAPL's files, a window of two seconds, NVML by a stand-in."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest
import torch

from kdbench.efficiency.energy import Rapl, joules_per_example
from kdbench.efficiency.nvml import Gpu
from kdbench.errors import UserError


def zone(root: Path, name: str, title: str, microjoules: int, end: int = 1_000_000_000) -> Path:
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(f"{title}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text(f"{end}\n")
    return folder


def test_packages_are_added_up_and_parts_of_them_are_not(tmp_path: Path) -> None:
    first = zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 7_000_000)
    core = zone(tmp_path, "intel-rapl:0:0", "core", 1_000_000)
    platform = zone(tmp_path, "intel-rapl:2", "psys", 1_000_000)
    counter = Rapl(tmp_path)
    assert counter() == 0.0
    for folder, reading in ((first, 6_500_000), (second, 7_250_000), (core, 9), (platform, 9)):
        (folder / "energy_uj").write_text(str(reading))
    assert counter() == pytest.approx(1.5 + 0.25)


def test_a_counter_that_began_anew_is_followed(tmp_path: Path) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0", 900_000, end=1_000_000)
    counter = Rapl(tmp_path)
    (package / "energy_uj").write_text("200000")
    assert counter() == pytest.approx(0.3)
    (package / "energy_uj").write_text("300000")
    assert counter() == pytest.approx(0.4)


def test_no_counter_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="this machine has no RAPL energy counter"):
        Rapl(tmp_path)


def test_a_counter_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 1)

    def refuse(self: Rapl) -> list[int]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Rapl, "_read", refuse)
    with pytest.raises(UserError, match=r"may not be read: chmod a\+r .*intel-rapl:0/energy_uj as root"):
        Rapl(tmp_path)


class Device:
    """A device of 10 W whose calls take a quarter of a second each."""

    def __init__(self, watts: float = 10.0) -> None:
        self.now, self.watts, self.calls = 0.0, watts, 0

    def call(self) -> None:
        self.calls += 1
        self.now += 0.25

    def clock(self) -> float:
        return self.now

    def joules(self) -> float:
        return self.watts * self.now


def test_the_energy_of_an_example_is_power_times_its_time() -> None:
    device = Device()
    found = joules_per_example(device.call, 4, device.joules, clock=device.clock)
    assert found == pytest.approx(10.0 * 0.25 / 4)
    # One call before the window, eight in its two seconds.
    assert device.calls == 9


def test_a_counter_that_stands_still_gives_no_energy() -> None:
    device = Device(watts=0.0)
    with pytest.raises(UserError, match="the energy counter did not move in 2 s"):
        joules_per_example(device.call, 4, device.joules, clock=device.clock)


class NVMLError(Exception):
    pass


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A stand-in for pynvml with one GPU, which does not tell its memory clock."""

    def clock(device: str, kind: int) -> int:
        if kind == 2:
            raise NVMLError("Not Supported")
        return 1410

    module = types.ModuleType("pynvml")
    content = {
        "NVMLError": NVMLError,
        "NVML_CLOCK_SM": 1,
        "NVML_CLOCK_MEM": 2,
        "NVML_TEMPERATURE_GPU": 0,
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
        "nvmlDeviceGetTotalEnergyConsumption": lambda device: 12_345,
        "nvmlDeviceGetPowerUsage": lambda device: 61_500,
        "nvmlDeviceGetClockInfo": clock,
        "nvmlDeviceGetTemperature": lambda device, sensor: 41,
        "nvmlDeviceGetCurrentClocksEventReasons": lambda device: 0x4 | 0x40,
    }
    for name, value in content.items():
        setattr(module, name, value)
    monkeypatch.setitem(sys.modules, "pynvml", module)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda index: types.SimpleNamespace(uuid="0123-ab")
    )
    return module


def test_the_state_of_a_gpu(nvml: types.ModuleType) -> None:
    gpu = Gpu()
    assert gpu._device == "GPU-0123-ab"
    assert gpu.joules() == pytest.approx(12.345)
    assert gpu.state() == {
        "sm_clock_mhz": 1410,
        "memory_clock_mhz": None,
        "temperature_c": 41,
        "power_w": 61.5,
        "slowed_by": ["software power cap", "hardware thermal slowdown"],
    }


def test_a_gpu_that_cannot_be_asked_says_why(nvml: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise NVMLError("Not Supported")

    gpu = Gpu()
    monkeypatch.setattr(nvml, "nvmlDeviceGetTotalEnergyConsumption", refuse)
    with pytest.raises(UserError, match="this GPU has no energy counter: Not Supported"):
        gpu.joules()
    monkeypatch.setattr(nvml, "nvmlInit", refuse)
    with pytest.raises(UserError, match="NVML cannot be used: Not Supported"):
        Gpu()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(UserError, match=r"nvidia-ml-py is not installed: pip install 'kdbench\[energy\]'"):
        Gpu()
