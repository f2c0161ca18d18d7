"""The contract of a target: what labels are, what training lowers, and by what a model is judged.

A target is one file of this package (or of an installed one, by entry points): a ``Target`` registered with
``@target``. Code elsewhere never asks which target it has; it asks the target. The plan reads targets without
torch: take it from ``kdbench.deferred``, and use it in functions only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from kdbench.deferred import Tensor
from kdbench.registry import Registry

# The target of a dataset that says nothing of it.
USUAL = "single_label"

# What a run knows of a model, its teacher and its data; a target says by which names metrics take it.
ROLES = (
    "logits",
    "labels",
    "teacher_logits",
    "train_logits",
    "train_labels",
    "validation_logits",
    "validation_labels",
    "features",
    "teacher_features",
    "temperature",
)

Labels = NDArray[Any]


class Tally(ABC):
    """The headline of a target, counted batch by batch without reading anything back from the device."""

    @abstractmethod
    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Take in a batch: logits (B, K) and its labels, both on the device."""

    @abstractmethod
    def value(self) -> float:
        """Return the headline of all batches so far."""


class Target(ABC):
    """What one column of labels is, for a model that gives K logits an example.

    Class attributes a target sets:
        headline: the metric that leads, higher is better: it picks the best epoch and heads tables.
        loss_name: what the mean loss on validation is called in the history.
        tensors: as which tensor of `kdbench.metrics.tensors` metrics take what of ``ROLES``; a metric that
            needs another tensor is not the target's.
        figures: the metrics that ``kdbench evaluate`` shows.
        exclusive: whether an example has exactly one class, without which neither the order of classes nor
            a long tail, a further head or a score on corrupted inputs has a meaning yet.
    """

    name: ClassVar[str]
    headline: ClassVar[str]
    loss_name: ClassVar[str]
    tensors: ClassVar[Mapping[str, str]]
    figures: ClassVar[tuple[str, ...]]
    exclusive: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def takes(cls, labels: Labels) -> bool:
        """Return whether labels, as a user's function gives them, have the shape and type of this target."""

    @abstractmethod
    def stored(self, where: str, labels: Labels) -> Labels:
        """Return a copy of such labels as datasets hold them; UserError for what this would change."""

    @abstractmethod
    def num_classes(self, where: str, splits: Iterable[Labels]) -> int:
        """Return how many classes the labels of all splits show, where nothing names them.

        Raises UserError for more than there can be: so many would be made room for.
        """

    @abstractmethod
    def faults(self, where: str, column: str, labels: Labels, classes: int) -> Iterator[str]:
        """Yield a line for each part of a split's labels that is of no class."""

    @abstractmethod
    def counts(self, labels: Labels, classes: int) -> NDArray[np.int64]:
        """Return how many examples have each class (K,)."""

    @abstractmethod
    def strata(self, labels: Labels, classes: Sequence[str]) -> tuple[NDArray[np.int64], Sequence[str]]:
        """Return the stratum of each example (N,) and the strata's names: what a split divides evenly."""

    @abstractmethod
    def chance(self, labels: Tensor, classes: int) -> float:
        """Return the headline of a model that knows nothing, for these labels."""

    @abstractmethod
    def loss(self, logits: Tensor, labels: Tensor, reduction: Literal["mean", "sum"] = "mean") -> Tensor:
        """Return the hard loss of logits (B, K), in nats: the mean over examples, or their sum."""

    @abstractmethod
    def soft_loss(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """Return the loss of a student's logits (B, K) against its teacher's, softened by a temperature."""

    @abstractmethod
    def tally(self, device: Any) -> Tally:
        """Return a new count of the headline on a device."""

    @abstractmethod
    def codes(self, logits: Tensor, labels: Tensor) -> tuple[Labels, Labels]:
        """Return a number for the label and the prediction of each example: two arrays (N,).

        Numbers of any two models are equal where they say the same, so that whether a prediction is right, or
        the teacher's, can be read from them alone.
        """


TARGETS: Registry[type[Target]] = Registry(
    "target", home="kdbench.targets", check=lambda member: _fault(member)
)


def target(name: str) -> Callable[[type[Target]], type[Target]]:
    """Register a ``Target`` under ``name``."""

    def register(member: type[Target]) -> type[Target]:
        member.name = name
        TARGETS.add(name, member, member)
        return member

    return register


def find_target(name: str) -> Target:
    """Return a target by name; raises UserError with the nearest right one."""
    return TARGETS.find(name)()


def target_of(labels: Labels) -> Target | None:
    """Return the target that labels are of, by their shape and type; None where no target takes them."""
    return next((member() for member in TARGETS.all().values() if member.takes(labels)), None)


def _fault(member: Any) -> str | None:
    if not isinstance(member, type) or not issubclass(member, Target):
        return "is no Target: derive the class from it"
    missing = sorted(member.__abstractmethods__)
    return f"lacks the method {missing[0]}()" if missing else None
