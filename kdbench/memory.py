"""How much memory a run may take for what it holds: sizes as people write them, and the default budget."""

from __future__ import annotations

import math
import re

import psutil

from kdbench.errors import UserError

UNITS = {
    "B": 1,
    **{f"{prefix}B": 1000**power for power, prefix in enumerate(("k", "M", "G", "T"), start=1)},
    **{f"{prefix}iB": 1024**power for power, prefix in enumerate(("K", "M", "G", "T"), start=1)},
}
_BY_NAME = {unit.lower(): size for unit, size in UNITS.items()}
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*([a-z]+)", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Return a size in bytes: a number and one of UNITS, whatever the case.

    >>> parse_size("500MB"), parse_size("1.5 GiB")
    (500000000, 1610612736)

    Raises UserError for anything else, and for a size of less than a byte.
    """
    match = _SIZE.fullmatch(text.strip())
    unit = _BY_NAME.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise UserError(f"memory budget '{text}' is not a size: give a size such as 8GB, 500MB or 2GiB.")
    return checked_budget(math.floor(float(match[1]) * unit))


def checked_budget(budget: int) -> int:
    """Return a budget in bytes; raises UserError for one that holds nothing."""
    if budget < 1:
        raise UserError(f"a memory budget of {budget} bytes holds nothing: give a size such as 8GB.")
    return budget


def as_text(size: int) -> str:
    """Return a size in bytes to two or three digits, in decimal units.

    >>> as_text(2_143_000_000), as_text(500_000_000), as_text(77)
    ('2.1 GB', '500 MB', '77 B')
    """
    units = [unit for unit in UNITS if "i" not in unit]
    # Decided after rounding, so that 999,999 bytes are 1.0 MB and not 1000 kB.
    for unit, larger in zip(units, [*units[1:], None], strict=True):
        value = size / UNITS[unit]
        if larger is None or round(value) < 1000:
            break
    return f"{value:.1f} {unit}" if value < 9.95 and unit != "B" else f"{value:.0f} {unit}"


def default_budget(device: str = "cpu") -> int:
    """Return half of the memory that is free, in bytes; on CUDA half of the GPU's where that is less.

    Half, because reading a dataset takes its memory twice for a moment, and models need some as well.
    """
    free = psutil.virtual_memory().available
    if device == "cuda":
        import torch

        free = min(free, torch.cuda.mem_get_info()[0])
    return free // 2
