"""The cohort engine: one pass over the data, one teacher pass a batch, many students.

All students see the same batches with the same augmentations. A teacher runs once a batch, in evaluation
mode and without gradients, and gives the union of the features that its students need. A student whose
loss is not finite, or whose method raises, leaves the cohort; the others go on. Nor does anything else that
a student, a method or a teacher does reach the others: what they read in common they leave as it is or are
given copies of, random streams begin anew for each of them, and settings of torch are set back.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from kdbench.code.foreign import foreign
from kdbench.data import Batches
from kdbench.errors import UserError, in_words
from kdbench.inputs import Inputs, first
from kdbench.models import FeatureReader, Outputs
from kdbench.models.folding import folded
from kdbench.shared_state import kept_settings
from kdbench.training.checkpoint import read_state, write_state
from kdbench.training.precision import autocast
from kdbench.training.seeds import generator, reseed
from kdbench.training.trainee import Step, Trainee, Tutor

OnEpoch = Callable[[int, Sequence[Trainee]], None]

# On how many examples a folded teacher is compared with the teacher.
EXAMPLES = 8


def train(
    trainees: Sequence[Trainee],
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
    tutors = dict.fromkeys(trainee.tutor for trainee in trainees if trainee.tutor)
    teachers = [_Teacher(tutor, trainees) for tutor in tutors]
    steps = train_batches.steps(recipe.batch_size)
    for epoch in range(done + 1, recipe.epochs + 1):
        active = [trainee for trainee in trainees if trainee.failure is None]
        if not active:
            break
        for trainee in active:
            trainee.begin_epoch()
        order = generator("batches", seed, epoch)
        for index, (x, y, places) in enumerate(train_batches.epoch(recipe.batch_size, order)):
            position = (epoch - 1) * steps + index
            step = Step(
                epoch=epoch,
                index=index,
                progress=position / (recipe.epochs * steps),
                epoch_ended=index == steps - 1,
                ended=position == recipe.epochs * steps - 1,
            )
            shown = {}
            for teacher in teachers:
                reseed("teacher", seed, epoch, index)
                with kept_settings():
                    shown[teacher.tutor] = teacher.show(x)
            for trainee in active:
                if trainee.failure is None:
                    with _leaving(trainee):
                        outputs = shown[trainee.tutor] if trainee.tutor else None
                        trainee.step(x, y, places, outputs, step)
        for trainee in active:
            if trainee.failure is None:
                with _leaving(trainee):
                    trainee.end_epoch(epoch, train_batches, validation_batches)
        write_state(checkpoint, epoch, trainees)
        on_epoch(epoch, trainees)
    for teacher in teachers:
        teacher.close()
    for trainee in trainees:
        trainee.reader.close()


@contextmanager
def _leaving(trainee: Trainee) -> Iterator[None]:
    """What one student's work raises ends this student, with its reason, and no other."""
    try:
        with kept_settings(), foreign(trainee.code):
            yield
    except UserError:
        raise  # images that cannot be read any more are no fault of the student
    except Exception as error:
        trainee.traceback = traceback.format_exc()
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = in_words(error)
        trainee.failure = f"{type(error).__name__}: {text} ({Path(where.filename).name}:{where.lineno})"


class _Teacher:
    """A tutor's one pass a batch, with its batch-norms folded and no feature that no student needs."""

    def __init__(self, tutor: Tutor, trainees: Sequence[Trainee]) -> None:
        pupils = [trainee for trainee in trainees if trainee.tutor is tutor]
        self.tutor = tutor
        self._needs: frozenset[str] = frozenset().union(
            *(pupil.distiller.needs for pupil in pupils if pupil.distiller.uses_teacher)
        )
        self._precision = trainees[0].precision
        self._device = trainees[0].device
        self._reader: FeatureReader | None = None
        tutor.model.eval()

    def show(self, x: Inputs) -> Outputs | None:
        if not self._needs:
            return None
        started = time.perf_counter()
        if self._reader is None:
            model = folded(self.tutor.model, first(x, EXAMPLES), untouched=self.tutor.taps.stages)
            self._reader = FeatureReader(model, self.tutor.taps, self._needs)
        with torch.no_grad(), autocast(self._precision, self._device):
            outputs = self._reader(x)
        self.tutor.seconds += time.perf_counter() - started
        return outputs

    def close(self) -> None:
        if self._reader:
            self._reader.close()
