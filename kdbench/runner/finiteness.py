"""Whether what a network holds and gives is made of numbers: the first tensor that is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from kdbench.runner.predictions import FILED, ByTask
from kdbench.tasks import name_in

SPLITS = ("test", "validation", "train")


def broken_weight(weights: Mapping[str, Tensor]) -> str | None:
    """Name the first weight that is not finite, and how much of it is not; None where all are."""
    return next(
        (text for name, value in weights.items() if (text := _broken(f"weight '{name}' is", value))), None
    )


def broken_logits(predictions: ByTask, splits: Sequence[str] = SPLITS) -> str | None:
    """Name the first logits of the last epoch that are not finite, by task and split; None where all are."""
    for task, found in predictions.items():
        for split in splits:
            tensor = getattr(found, split)
            text = None if tensor is None else _broken(f"{name_in(task, FILED[split])} are", tensor)
            if text:
                return text
    return None


def _broken(name: str, tensor: Tensor) -> str | None:
    if not tensor.is_floating_point() or bool(tensor.isfinite().all()):
        return None
    what = "NaN" if bool(torch.isnan(tensor).any()) else "infinite"
    count = int((~tensor.isfinite()).sum())
    return f"{name} not finite ({what}; {count:,} of {tensor.numel():,} values)"
