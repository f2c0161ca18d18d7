"""What a measuring process makes of its job: the models, and what they are run on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdbench.errors import UserError
from kdbench.models import build_model, load_checkpoint
from kdbench.models.features import run_blank


def build(job: Mapping[str, Any], entry: Mapping[str, Any]) -> nn.Module:
    """Return the model of one entry of a job, with its weights where it has a checkpoint."""
    torch.manual_seed(0)
    model = build_model(
        entry["name"],
        input_shape=tuple(job["input_shape"]),
        num_classes=job["num_classes"],
        args=entry["args"],
    )
    if entry["checkpoint"] is not None:
        load_checkpoint(model, Path(entry["checkpoint"]))
    return model


def outputs(model: nn.Module, shape: Sequence[int]) -> int | None:
    """Return how many logits a model gives, None where it gives none that can be told."""
    channels, height, width = shape
    try:
        return run_blank(model, (channels, height, width)).shape[1]
    except UserError:
        return None


def example(batch: int, shape: Sequence[int], device: str) -> Tensor:
    """Return inputs (B, ...) on a device; those of four dimensions are laid out channels_last."""
    inputs = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(0))
    if inputs.dim() == 4:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    return inputs.to(device)
