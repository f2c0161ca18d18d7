"""What a measuring process makes of its job: the models, and what they are run on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdbench.errors import UserError
from kdbench.methods.restructuring import Decided, finished, restructured
from kdbench.models import build_model, load_checkpoint
from kdbench.models.features import run_blank
from kdbench.models.registry import is_foreign
from kdbench.models.trial import Trial, try_out
from kdbench.shared_state import seed_streams


@dataclass(frozen=True)
class Built:
    """A model to measure, and how it fared in its trial; the zoo's own need none."""

    model: nn.Module
    trial: Trial | None = None

    @property
    def memory_format(self) -> torch.memory_format:
        """The memory format of its weights and inputs."""
        return self.trial.memory_format if self.trial else torch.channels_last


def build(job: Mapping[str, Any], entry: Mapping[str, Any]) -> Built:
    """Return the model of one entry of a job, with its weights where it has a checkpoint."""
    seed_streams(0)
    model = _build(job, entry)
    trial = try_out(model, job["input_shape"]) if is_foreign(entry["name"]) else None
    return Built(model, trial)


def _build(job: Mapping[str, Any], entry: Mapping[str, Any]) -> nn.Module:
    model = build_model(
        entry["name"],
        input_shape=tuple(job["input_shape"]),
        num_classes=job["num_classes"],
        args=entry["args"],
    )
    if entry["checkpoint"] is not None:
        load_checkpoint(model, Path(entry["checkpoint"]))
    model, compressors = restructured(model, (Decided(**decided) for decided in entry["decisions"]))
    if entry["weights"] is not None:
        load_checkpoint(model, Path(entry["weights"]))
    return finished(model, compressors)


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
