"""The arithmetic of training: ``auto`` takes bf16 where the hardware computes it natively, else fp32.

Parameters, losses and batch-norm statistics stay in float32, and every evaluation runs in float32.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal

import torch

from kdbench.machine import native_bf16

Precision = Literal["fp32", "bf16"]


def resolve(precision: Literal["auto", "fp32", "bf16"], device: torch.device) -> Precision:
    """Return the precision that training uses on a device."""
    if precision == "auto":
        return "bf16" if native_bf16(device) else "fp32"
    return precision


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[None]:
    """Return the context in which models run forward while they train."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
