"""What a measurement ran on: hardware, library versions, source revision, load, and the measuring lock."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import psutil

from kdbench.errors import UserError

if TYPE_CHECKING:
    import torch

LIBRARIES = (
    "kdbench",
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "pandas",
    "statsmodels",
    "scikit-learn",
    "fvcore",
    "safetensors",
    "onnxruntime",
)

# What decides how fast bfloat16 runs, as the kernel spells it on x86 and on ARM.
BF16_FLAGS = ("amx_bf16", "amx_tile", "avx512_bf16", "bf16", "avx512f", "avx2")

_CPUINFO = Path("/proc/cpuinfo")
_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
_SOURCE = Path(__file__).parent
# The descriptors of the measuring lock that this process holds.
_HELD: list[int] = []


def fingerprint() -> dict[str, Any]:
    """Return what a reader must know of this machine to judge a measurement; never its name, user or folders.

    ``cpu_flags`` are those of BF16_FLAGS that the processor has, or None where the system does not list
    them; ``gpus`` is empty without a CUDA device. Memory is in GiB.
    """
    import torch

    cpuinfo = _cpuinfo()
    gpus = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        device = torch.cuda.get_device_properties(index)
        gpus.append(
            {
                "name": device.name,
                "memory_gib": round(device.total_memory / 2**30, 1),
                "capability": f"{device.major}.{device.minor}",
            }
        )
    return {
        "cpu": cpuinfo.get("model name") or platform.processor() or platform.machine(),
        "cores_physical": psutil.cpu_count(logical=False),
        "cores_logical": psutil.cpu_count(logical=True),
        "cores_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "cpu_flags": _bf16_flags(cpuinfo),
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "os": platform.platform(),
        "python": platform.python_version(),
        "gpus": gpus,
        "gpu_driver": _gpu_driver() if gpus else None,
        "cuda": torch.version.cuda if gpus else None,
    }


def native_bf16(device: torch.device) -> bool:
    """Return whether a device multiplies bf16 matrices natively (tensor cores; AMX or AVX512-BF16)."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(bool(getattr(torch.cpu, probe, bool)()) for probe in probes)


def versions() -> dict[str, str | None]:
    """Return the versions of Python and of the libraries that results depend on; None where not installed."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            versions[library] = None
    return versions


def git_commit(folder: Path = _SOURCE) -> str | None:
    """Return the commit that ``folder`` is checked out from, with ``-dirty`` where files under it differ.

    None where git is missing, where ``folder`` is no checkout, and where the checkout around it does not
    track it: a package installed inside somebody's project has no commit of its own.
    """
    if not _git(folder, "ls-files", "--", "."):
        return None
    commit = _git(folder, "rev-parse", "--verify", "--quiet", "HEAD")
    if not commit:
        return None
    return commit + ("-dirty" if _git(folder, "status", "--porcelain", "--", ".") else "")


def load_average() -> float:
    """Return the mean number of runnable processes over the last minute."""
    return round(psutil.getloadavg()[0], 2)


class _MeasuringLock(filelock.FileLock):
    """The measuring lock, with the descriptor that holds it."""

    def fileno(self) -> int:
        descriptor = self._context.lock_file_fd
        assert descriptor is not None
        return descriptor


def held_locks() -> tuple[int, ...]:
    """Return the descriptors of the measuring lock that this process holds; who inherits one holds it too."""
    return tuple(_HELD) if os.name == "posix" else ()


@contextmanager
def measuring_lock(timeout_s: float, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the one lock of this machine under which anything is timed.

    Two processes that time at once measure each other. ``on_wait`` is called once before waiting for
    another process. Raises UserError where another process still holds
    the lock after ``timeout_s`` seconds (0: one attempt), or where the lock file cannot be used.
    """
    path = Path(tempfile.gettempdir()) / "kdbench-measuring.lock"
    # Every user of the machine must be able to take the lock, whoever made the file.
    lock = _MeasuringLock(path, timeout=max(timeout_s, 0.0), mode=0o666, poll_interval=0.2)
    try:
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            on_wait()
            lock.acquire()
    except filelock.Timeout:
        raise UserError(
            f"another kdbench process is measuring on this machine, and still was after {timeout_s:g} s. "
            "Wait for it to end, then run the same command again."
        ) from None
    except OSError as error:
        raise UserError(
            f"cannot use the measuring lock {path}: {error.strerror or error}. Delete it, or set TMPDIR."
        ) from None
    descriptor = lock.fileno()
    _HELD.append(descriptor)
    try:
        yield
    finally:
        _HELD.remove(descriptor)
        lock.release()


def _cpuinfo() -> dict[str, str]:
    """Return the first processor of the kernel's list, by field; empty on systems that have no such list."""
    if not _CPUINFO.is_file():
        return {}
    first = _CPUINFO.read_text().split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {field.strip(): value.strip() for field, _, value in pairs}


def _bf16_flags(cpuinfo: dict[str, str]) -> list[str] | None:
    listed = cpuinfo.get("flags") or cpuinfo.get("Features")
    if listed is None:
        return None
    present = set(listed.split())
    return [flag for flag in BF16_FLAGS if flag in present]


def _gpu_driver() -> str | None:
    """Return the NVIDIA driver's version, from the line ``NVRM version: ... Module  535.104.05  ...``."""
    if not _NVIDIA_DRIVER.is_file():
        return None
    words = _NVIDIA_DRIVER.read_text().splitlines()[0].split()
    return next((word for word in words if word.count(".") >= 1 and word.replace(".", "").isdigit()), None)


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what a git command prints, or None where git is missing or refuses."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
