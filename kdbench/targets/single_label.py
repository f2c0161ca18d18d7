"""``single_label``: an example has one class of K, and the model gives softmax(z)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from kdbench.deferred import F, Tensor, torch
from kdbench.errors import UserError
from kdbench.targets.target import ROLES, USUAL, Labels, Tally, Target, target


def soft_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return T²·KL(softmax(z_t/T) ‖ softmax(z_s/T)), the mean over the batch, in nats.

    The factor T² keeps its gradients at the scale of those of the hard loss (Hinton et al. 2015).

    Args:
        student: logits (B, K).
        teacher: logits (B, K), without gradient.
        temperature: T > 0.
    """
    log_p_student = F.log_softmax(student / temperature, dim=1)
    log_p_teacher = F.log_softmax(teacher / temperature, dim=1)
    divergence = F.kl_div(log_p_student, log_p_teacher, reduction="batchmean", log_target=True)
    return temperature**2 * divergence


class Right(Tally):
    """The share of examples whose class has the highest logit."""

    def __init__(self, device: Any) -> None:
        """Start with none."""
        self._right = torch.zeros((), dtype=torch.int64, device=device)
        self._seen = 0

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Take in a batch: logits (B, K), classes (B,)."""
        self._right += (logits.argmax(1) == labels).sum()
        self._seen += len(labels)

    def value(self) -> float:
        """Return the top-1 accuracy."""
        return self._right.item() / self._seen


@target(USUAL)
class SingleLabel(Target):
    """Labels are class numbers (N,); L = −log softmax(z)_y; the most accurate model leads."""

    headline = "top1"
    loss_name = "nll"
    figures = ("top1", "top5", "nll", "ece")
    exclusive = True
    # The names that metrics give to logits and labels are meant for this target.
    tensors: ClassVar[Mapping[str, str]] = {name: name for name in ROLES}

    @classmethod
    def takes(cls, labels: Labels) -> bool:
        """Take whole numbers, one an example."""
        return labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer)

    def stored(self, where: str, labels: Labels) -> Labels:
        """Return int64 (N,); raises UserError for a label that has no room there."""
        highest = int(labels.max(initial=0))
        if highest > np.iinfo(np.int64).max:
            raise UserError(f"labels of {where} hold {highest}: labels are whole numbers 0 .. K − 1.")
        return labels.astype(np.int64)

    def num_classes(self, where: str, splits: Iterable[Labels]) -> int:
        """Return one more than the highest label; UserError where that is more than there are examples."""
        counts = [(1 + int(labels.max(initial=-1)), len(labels)) for labels in splits]
        classes, examples = max(count for count, _ in counts), sum(length for _, length in counts)
        if classes > examples:
            raise UserError(
                f"{where} holds {examples:,} examples and the label {classes - 1}: labels are whole numbers "
                "0 .. K − 1, and every class has an example."
            )
        return classes

    def faults(self, where: str, column: str, labels: Labels, classes: int) -> Iterator[str]:
        """Yield a line for each label that is not one of 0 .. K − 1."""
        for row in np.flatnonzero((labels < 0) | (labels >= classes)):
            yield (
                f"example {row} of {where} has the {column} {labels[row]}: labels are "
                f"0 to {classes - 1} ({classes} classes)."
            )

    def counts(self, labels: Labels, classes: int) -> NDArray[np.int64]:
        """Return the number of examples of each class; labels that are no class are passed over."""
        return np.bincount(labels[(labels >= 0) & (labels < classes)], minlength=classes)

    def strata(self, labels: Labels, classes: Sequence[str]) -> tuple[NDArray[np.int64], Sequence[str]]:
        """Return the classes themselves."""
        return labels, classes

    def chance(self, labels: Tensor, classes: int) -> float:
        """Return 1/K, the accuracy of a uniform guess whatever the labels."""
        return 1 / classes

    def loss(self, logits: Tensor, labels: Tensor, reduction: Literal["mean", "sum"] = "mean") -> Tensor:
        """Return the cross-entropy −log softmax(z)_y, the mean over examples or their sum."""
        return F.cross_entropy(logits, labels, reduction=reduction)

    def soft_loss(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """Return `soft_loss`."""
        return soft_loss(student, teacher, temperature)

    def tally(self, device: Any) -> Tally:
        """Return a count of right predictions."""
        return Right(device)

    def codes(self, logits: Tensor, labels: Tensor) -> tuple[Labels, Labels]:
        """Return the class and the predicted class, uint16 where that holds all of them."""
        kind = np.uint16 if logits.shape[1] <= 1 << 16 else np.uint32
        label, predicted = (classes.cpu().numpy().astype(kind) for classes in (labels, logits.argmax(1)))
        return label, predicted
