"""The arithmetic of training: ``auto`` takes bf16 where the hardware computes it natively, else fp32.

Parameters, losses and batch-norm statistics stay in float32, and every evaluation runs in float32.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal

import torch

Precision = Literal["fp32", "bf16"]


def native_bf16(device: torch.device) -> bool:
    """Return whether a device multiplies bf16 matrices natively (tensor cores; AMX or AVX512-BF16)."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(bool(getattr(torch.cpu, probe, bool)()) for probe in probes)


def resolve(precision: Literal["auto", "fp32", "bf16"], device: torch.device) -> Precision:
    """Return the precision that training uses on a device."""
    if precision == "auto":
        return "bf16" if native_bf16(device) else "fp32"
    return precision


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[None]:
    """Return the context in which models run forward while they train."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
