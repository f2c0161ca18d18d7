"""What every loop trains: the same images, teacher, students with the same first weights, and losses."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn

from kdbench.data import Batches
from kdbench.data.dataset import Split
from kdbench.errors import UserError
from kdbench.inputs import InputSpec
from kdbench.methods import Distiller, Pair, find_method
from kdbench.methods.base import Refusal
from kdbench.models import Taps, build_model, feature_shapes, find_taps
from kdbench.suite.schema import Recipe
from kdbench.training.evaluation import recompute_batch_norm

# Six methods that share a teacher: two on logits, two on feature maps, a hint with a network of its own, and
# relations between images. The first n of them are the cohort of n methods.
METHODS = ("kd", "dkd", "at", "sp", "fitnet", "rkd")

SHAPE = (3, 32, 32)
INPUTS = InputSpec.image(SHAPE)
CLASSES = 100
MEAN = (0.5071, 0.4866, 0.4409)
STD = (0.2673, 0.2564, 0.2762)
CROP_PADDING = 4

# Low, since nothing can be learned from random images: what counts is that nothing diverges.
OPTIMISER = {"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4}

# Images that a teacher's batch-norm statistics are taken from.
_CALIBRATION = 512


@dataclass(frozen=True, eq=False)
class Task:
    """A teacher, a student and images on the CPU; every loop trains copies of the models."""

    names: tuple[str, str]
    teacher: nn.Module
    student: nn.Module
    images: Split
    batch_size: int
    device: torch.device

    @property
    def name(self) -> str:
        """The pair as tables show it."""
        return " → ".join(self.names)

    @property
    def steps(self) -> int:
        """The number of batches of an epoch."""
        return len(self.images) // self.batch_size

    @cached_property
    def teacher_taps(self) -> Taps:
        """Where the teacher's features are read."""
        return find_taps(self.teacher, INPUTS)

    @cached_property
    def student_taps(self) -> Taps:
        """Where the student's features are read."""
        return find_taps(self.student, INPUTS)

    @cached_property
    def pair(self) -> Pair:
        """The two models as methods see them."""
        return Pair(
            teacher=self.names[0],
            student=self.names[1],
            teacher_shapes=feature_shapes(self.teacher, self.teacher_taps, INPUTS),
            student_shapes=feature_shapes(self.student, self.student_taps, INPUTS),
            num_classes=CLASSES,
            same_architecture=False,
        )

    def recipe(self, epochs: int) -> Recipe:
        """Return how kdbench trains the students."""
        return Recipe(epochs=epochs, batch_size=self.batch_size, optimizer="sgd", **OPTIMISER)

    def distiller(self, method: str) -> Distiller:
        """Return a method with its default hyper-parameters; raises UserError where it refuses the pair."""
        made = find_method(method).distiller
        try:
            made.check(made.Parameters(), self.pair)
        except Refusal as refusal:
            raise UserError(
                f"--pairs {':'.join(self.names)}: {method} cannot distil it: {refusal}."
            ) from None
        torch.manual_seed(0)
        return made(made.Parameters(), self.pair)

    def copies(self, memory_format: torch.memory_format) -> tuple[nn.Module, nn.Module]:
        """Return copies, on the device: the teacher in evaluation mode, the student in training mode."""
        teacher, student = (
            copy.deepcopy(model).to(self.device).to(memory_format=memory_format)
            for model in (self.teacher, self.student)
        )
        return teacher.eval().requires_grad_(False), student.train()


def zoo_task(pair: str, steps: int, batch_size: int, device: torch.device) -> Task:
    """Return the task of a pair ``TEACHER:STUDENT`` of any names that a suite accepts, with random images."""
    teacher_name, _, student_name = pair.partition(":")
    if not teacher_name or not student_name:
        raise UserError(f"--pairs {pair}: write a pair as TEACHER:STUDENT, such as resnet56:resnet20.")
    torch.manual_seed(0)
    names = (teacher_name, student_name)
    teacher, student = (build_model(name, inputs=INPUTS, num_classes=CLASSES) for name in names)
    images = random_images(steps * batch_size)
    few = Split(images.images[:_CALIBRATION], images.labels[:_CALIBRATION])
    # With the statistics of its first weights a deep teacher's activations would overflow.
    recompute_batch_norm(teacher, Batches(few, MEAN, STD))
    return Task(names, teacher, student, images, batch_size, device)


def random_images(count: int) -> Split:
    """Return images of CIFAR-100's shape with random pixels and labels: speed does not depend on them."""
    generator = torch.Generator().manual_seed(0)
    height_width_channels = (*SHAPE[1:], SHAPE[0])
    pixels = torch.randint(256, (count, *height_width_channels), generator=generator, dtype=torch.uint8)
    return Split(pixels, torch.randint(CLASSES, (count,), generator=generator))


def now(device: torch.device) -> float:
    """Return the time in seconds once the device has done all that it was asked to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
