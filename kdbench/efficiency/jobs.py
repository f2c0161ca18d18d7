"""What a measuring process makes of its job: the models, and what they are run on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kdbench.errors import UserError
from kdbench.inputs import Inputs, InputSpec, laid_out
from kdbench.methods.restructuring import Decided, finished, restructured
from kdbench.models import build_model, load_checkpoint
from kdbench.models.features import run_example
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
    trial = try_out(model, InputSpec.from_json(job["inputs"])) if is_foreign(entry["name"]) else None
    return Built(model, trial)


def _build(job: Mapping[str, Any], entry: Mapping[str, Any]) -> nn.Module:
    model = build_model(
        entry["name"],
        inputs=InputSpec.from_json(job["inputs"]),
        num_classes=job["num_classes"],
        args=entry["args"],
    )
    if entry["checkpoint"] is not None:
        load_checkpoint(model, Path(entry["checkpoint"]))
    model, compressors = restructured(model, (Decided(**decided) for decided in entry["decisions"]))
    if entry["weights"] is not None:
        load_checkpoint(model, Path(entry["weights"]))
    return finished(model, compressors)


def outputs(model: nn.Module, inputs: InputSpec) -> int | None:
    """Return how many logits a model gives, None where it gives none that can be told."""
    try:
        return run_example(model, inputs).shape[1]
    except UserError:
        return None


def example(job: Mapping[str, Any], batch: int, device: str) -> Inputs:
    """Return what the models of a job are run on; images are laid out channels_last."""
    return laid_out(InputSpec.from_json(job["inputs"]).example(batch, device), torch.channels_last)
