"""The contract of a method: how a student is made from a teacher.

A method is one file of this package: a ``Distiller`` registered with ``@method``. It is built from the
shapes of the tapped features, declares what it needs, and turns the outputs of student and teacher into
named loss terms, whose sum is minimised. Its own parameters (adapters) train with the student.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from kdbench.column import Column
from kdbench.errors import unknown
from kdbench.models.features import FeatureShapes, Outputs


class Parameters(BaseModel):
    """The hyper-parameters of a method, with their defaults and ranges."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Pair:
    """A teacher and a student as a method sees them before training: their shapes and the task."""

    teacher: str
    student: str
    teacher_shapes: FeatureShapes
    student_shapes: FeatureShapes
    num_classes: int
    same_architecture: bool


class Refusal(Exception):
    """Raised by ``check``: the reason why a method cannot work with a pair."""


class Distiller(nn.Module):
    """How a student learns; one instance serves one student.

    Class attributes a method may set:
        needs: what is read from both models, of ``logits``, ``pooled``, ``stages``.
        uses_teacher: False for a control that is trained without a teacher.
        moves_weights: True where the student's weights are changed beside the optimiser, so that
            batch-norm statistics must be computed anew before the student is evaluated.
        columns: further numbers that ``diagnose`` returns.
    """

    Parameters: ClassVar[type[Parameters]] = Parameters
    needs: frozenset[str] = frozenset({"logits"})
    uses_teacher: ClassVar[bool] = True
    moves_weights: ClassVar[bool] = False
    columns: ClassVar[tuple[Column, ...]] = ()

    def __init__(self, hyper: Any, pair: Pair) -> None:
        """Build the trainable parts from the shapes of the pair; ``hyper`` is a ``Parameters``."""
        super().__init__()
        self.hyper = hyper
        self.pair = pair

    @classmethod
    def check(cls, hyper: Any, pair: Pair) -> None:
        """Raise Refusal with the reason where the method cannot work with a pair."""

    def prepare(self, student: nn.Module, teacher: nn.Module) -> None:
        """Look at the models once, before the first step."""

    def forward(
        self, student: Outputs, teacher: Outputs | None, target: Tensor, progress: float
    ) -> dict[str, Tensor]:
        """Return named loss terms of one batch; ``progress`` runs from 0 to 1 over the training.

        ``target`` (B,) holds class numbers. A term is a scalar with its weight already applied.
        """
        raise TypeError(f"{type(self).__name__} does not define forward()")

    def own_loss(self, x: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return the loss terms of networks that the method itself trains on the images (B, C, H, W)."""
        return {}

    def after_step(self, student: nn.Module, teacher: nn.Module, epoch_ended: bool, ended: bool) -> None:
        """Act on the student's weights after the optimiser's step."""

    def diagnose(
        self, student: nn.Module, teacher: nn.Module, loss: Callable[[nn.Module], float]
    ) -> dict[str, float]:
        """Return further numbers of the trained student; ``loss`` gives a model's held-out mean NLL."""
        return {}


@dataclass(frozen=True)
class Method:
    """A registered method: its name, what it is, and where it comes from."""

    name: str
    title: str
    source: str
    year: int
    distiller: type[Distiller]

    @property
    def parameters(self) -> type[Parameters]:
        """The schema of its hyper-parameters."""
        return self.distiller.Parameters


_METHODS: dict[str, Method] = {}


def method(name: str, *, title: str, source: str, year: int) -> Callable[[type[Distiller]], type[Distiller]]:
    """Register a distiller as the method ``name``."""

    def register(distiller: type[Distiller]) -> type[Distiller]:
        _METHODS[name] = Method(name, title, source, year, distiller)
        return distiller

    return register


@cache
def _discover() -> None:
    package = importlib.import_module("kdbench.methods")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"kdbench.methods.{module.name}")


def methods() -> dict[str, Method]:
    """Return every method by name."""
    _discover()
    return dict(sorted(_METHODS.items()))


def find_method(name: str) -> Method:
    """Return a method by name; raises UserError with the nearest right name."""
    known = methods()
    if name not in known:
        raise unknown("method", name, known)
    return known[name]


def cross_entropy(outputs: Outputs, target: Tensor) -> Tensor:
    """Return the mean cross-entropy of a batch, the hard term that most methods keep."""
    return F.cross_entropy(outputs.logits, target)
