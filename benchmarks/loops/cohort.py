"""kdbench's own engine, as ``kdbench run`` calls it: students that share a teacher train in one pass."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kdbench.data import Augment, Batches
from kdbench.data.dataset import Split
from kdbench.training.cohort import train
from kdbench.training.precision import Precision
from kdbench.training.trainee import Trainee, Tutor
from loops.task import CROP_PADDING, MEAN, STD, Task, now


@dataclass(frozen=True)
class Turn:
    """What one turn took: the seconds of a step of the whole cohort, and of the end of an epoch.

    After its last step an epoch reads the losses back and writes the checkpoint. An epoch of a turn is far
    shorter than one of CIFAR-100, so this is kept apart.
    """

    step: float
    epoch_end: float


class TimedBatches(Batches):
    """Batches that note when an epoch began and ended: from the call for its first batch to its last step."""

    began = ended = 0.0

    def epoch(self, batch_size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Return the batches of one epoch."""
        self.began = now(self.device)
        yield from super().epoch(batch_size, generator)
        self.ended = now(self.device)


def batches_of(task: Task) -> TimedBatches:
    """Return the images with the augmentation of CIFAR-100, on the device."""
    augment = Augment(crop_padding=CROP_PADDING, flip=True)
    return TimedBatches(task.images, MEAN, STD, device=task.device, augment=augment)


def take_turn(task: Task, methods: Sequence[str], precision: Precision) -> Turn:
    """Train two epochs and time the second.

    The first pays for set-up and for what other loops left in the caches. Raises RuntimeError where a student
    fails: it would leave the cohort, and the rest would look faster than they are.
    """
    images = batches_of(task)
    nothing = Batches(Split(task.images.images[:0], task.images.labels[:0]), MEAN, STD, device=task.device)
    teacher, student = task.copies(torch.channels_last)
    tutor = Tutor(teacher, task.teacher_taps)
    trainees = [
        Trainee(
            id=f"{place} {method}",
            model=copy.deepcopy(student),
            taps=task.student_taps,
            distiller=task.distiller(method),
            recipe=task.recipe(epochs=2),
            device=task.device,
            precision=precision,
            tutor=tutor,
        )
        for place, method in enumerate(methods)
    ]
    ends: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        train(
            trainees,
            images,
            nothing,
            seed=0,
            checkpoint=Path(folder) / "state.pt",
            on_epoch=lambda epoch, active: ends.append(now(task.device) - images.ended),
        )
    for trainee in trainees:
        if trainee.failure:
            raise RuntimeError(f"{task.name}, {trainee.id}: {trainee.failure}")
    return Turn(step=(images.ended - images.began) / task.steps, epoch_end=ends[-1])
