"""The state of a cohort after every epoch, so that a killed run goes on with the same bits.

There is no generator state in it: every random stream is seeded by its purpose (``seeds``).
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from kdbench.errors import UserError
from kdbench.store import replacing
from kdbench.training.trainee import Trainee


def write_state(path: Path, epoch: int, trainees: Sequence[Trainee]) -> None:
    """Write the state of all trainees after an epoch, atomically."""
    content = {"epoch": epoch, "trainees": {trainee.id: trainee.state() for trainee in trainees}}
    with replacing(path, durable=False) as file:
        torch.save(content, file)


def saved_ids(path: Path) -> set[str]:
    """Return the ids of the trainees whose state a checkpoint holds."""
    return set(_read(path, "cpu")["trainees"]) if path.is_file() else set()


def read_state(path: Path, trainees: Sequence[Trainee]) -> int:
    """Restore the trainees and return the last finished epoch; 0 where there is no checkpoint."""
    if not path.is_file():
        return 0
    content = _read(path, trainees[0].device)
    for trainee in trainees:
        trainee.restore(content["trainees"][trainee.id])
    return int(content["epoch"])


def _read(path: Path, device: torch.device | str) -> dict[str, Any]:
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
        raise UserError(f"{path} is damaged: delete it, and its cohort starts again.") from error
