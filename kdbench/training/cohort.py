"""The cohort engine: one pass over the data, one teacher pass a batch, many students.

All students see the same batches with the same augmentations. The teacher runs once a batch, in evaluation
mode and without gradients, and gives the union of the features that the students need. A student whose
loss is not finite, or whose method raises, leaves the cohort; the others go on.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from kdbench.data import Batches
from kdbench.models import FeatureReader, Outputs, Taps
from kdbench.training.checkpoint import read_state, write_state
from kdbench.training.precision import autocast
from kdbench.training.seeds import generator
from kdbench.training.trainee import Step, Trainee

OnEpoch = Callable[[int, Sequence[Trainee]], None]


@dataclass
class Tutor:
    """A trained teacher in a cohort: its weights never change."""

    model: nn.Module
    taps: Taps


def train(
    trainees: Sequence[Trainee],
    tutor: Tutor | None,
    train_batches: Batches,
    validation_batches: Batches,
    *,
    seed: int,
    checkpoint: Path,
    on_epoch: OnEpoch,
) -> None:
    """Train all models together, from the last checkpoint if there is one, to the last epoch.

    Args:
        trainees: models with the same number of epochs, batch size and precision.
        tutor: the teacher, or None where a teacher itself is trained.
        train_batches: training images on the device.
        validation_batches: validation images on the device; may be empty.
        seed: decides the order and the augmentations of the images.
        checkpoint: file that holds the state after every epoch.
        on_epoch: called after every epoch with its number and the trainees.
    """
    recipe = trainees[0].recipe
    done = read_state(checkpoint, trainees)
    if done:
        on_epoch(done, trainees)
    teacher = _Teacher(tutor, trainees) if tutor else None
    steps = train_batches.steps(recipe.batch_size)
    for epoch in range(done + 1, recipe.epochs + 1):
        active = [trainee for trainee in trainees if trainee.failure is None]
        if not active:
            break
        for trainee in active:
            trainee.begin_epoch()
        order = generator("batches", seed, epoch)
        for index, (x, y, _) in enumerate(train_batches.epoch(recipe.batch_size, order)):
            position = (epoch - 1) * steps + index
            step = Step(
                epoch=epoch,
                index=index,
                progress=position / (recipe.epochs * steps),
                epoch_ended=index == steps - 1,
                ended=position == recipe.epochs * steps - 1,
            )
            shown = teacher.show(x) if teacher else None
            for trainee in active:
                if trainee.failure is None:
                    with _leaving(trainee):
                        trainee.step(x, y, shown, tutor.model if tutor else None, step)
        for trainee in active:
            if trainee.failure is None:
                with _leaving(trainee):
                    trainee.end_epoch(epoch, train_batches, validation_batches)
        write_state(checkpoint, epoch, trainees)
        on_epoch(epoch, trainees)
    if teacher:
        teacher.close()
    for trainee in trainees:
        trainee.reader.close()


@contextmanager
def _leaving(trainee: Trainee) -> Iterator[None]:
    """What one student's work raises ends this student, with its reason, and no other."""
    try:
        yield
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = " ".join(str(error).split()) or "no message"
        trainee.failure = f"{type(error).__name__}: {text} ({Path(where.filename).name}:{where.lineno})"


class _Teacher:
    """The teacher's one pass a batch."""

    def __init__(self, tutor: Tutor, trainees: Sequence[Trainee]) -> None:
        pupils = [trainee for trainee in trainees if trainee.distiller.uses_teacher]
        needs: frozenset[str] = frozenset().union(*(pupil.distiller.needs for pupil in pupils))
        self._needed = bool(needs)
        self._precision = trainees[0].precision
        self._device = trainees[0].device
        tutor.model.eval()
        self._reader = FeatureReader(tutor.model, tutor.taps, needs)

    def show(self, x: torch.Tensor) -> Outputs | None:
        if not self._needed:
            return None
        with torch.no_grad(), autocast(self._precision, self._device):
            return self._reader(x)

    def close(self) -> None:
        self._reader.close()
