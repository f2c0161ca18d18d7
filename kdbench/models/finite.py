"""Whether a tensor is made of numbers."""

from __future__ import annotations

import torch
from torch import Tensor


def nonfinite(tensor: Tensor) -> str | None:
    """Return how a tensor is not finite, and how much of it; None where it is or holds no floating point.

    >>> nonfinite(torch.tensor([1.0, torch.inf, torch.nan]))
    'not finite (NaN; 2 of 3 values)'
    """
    if not tensor.is_floating_point():
        return None
    finite = tensor.isfinite()
    if bool(finite.all()):
        return None
    what = "NaN" if bool(torch.isnan(tensor).any()) else "infinite"
    return f"not finite ({what}; {int((~finite).sum()):,} of {tensor.numel():,} values)"
