"""The highest memory that a process takes while it works, as the system or the allocator keeps it."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from pathlib import Path

import torch

from kdbench.errors import UserError

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def watch(device: torch.device) -> Callable[[], int]:
    """Begin to watch this process, and return a function that tells its peak since, in bytes.

    On the CPU the peak is how far resident memory rose over what it was at the beginning. Linux keeps the
    highest value and can be told to forget it, so nothing between two samples is missed. On CUDA it is the
    most that was allocated at once, all that the process held there before included.

    Raises UserError on systems that do not tell it.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return lambda: torch.cuda.max_memory_allocated(device)
    if not _CLEAR.is_file():
        raise UserError("the peak of resident memory is only told by Linux (/proc/self/clear_refs)")
    # The first operation starts the threads, which every model has in common.
    torch.nn.functional.conv2d(torch.zeros(1, 8, 32, 32), torch.zeros(8, 8, 3, 3))
    # Free memory that the process still holds would hide growth.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    try:
        _CLEAR.write_text("5")
    except OSError as error:
        raise UserError(f"the peak of resident memory cannot be reset ({error.strerror})") from error
    before = _resident("VmRSS")
    return lambda: max(0, _resident("VmHWM") - before)


def _resident(field: str) -> int:
    match = re.search(rf"{field}:\s+(\d+) kB", _STATUS.read_text())
    if match is None:
        raise UserError(f"/proc/self/status does not tell {field}")
    return int(match[1]) * 1024
