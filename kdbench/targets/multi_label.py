"""``multi_label``: an example has any number of K labels, and the model gives σ(z_k) for each of them.

Every label is a binary problem of its own; the losses are means over the K problems, so that the weights of a
method mean the same for any K. A label is predicted where σ(z) > ½, which is z > 0.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from kdbench.deferred import F, Tensor, torch
from kdbench.errors import UserError
from kdbench.targets.target import Labels, Tally, Target, target

# Label sets of no more labels than this are their own numbers, one bit a label.
BITS = 64


def binary_divergences(first: Tensor, second: Tensor) -> Tensor:
    """Return KL(Bern(σ(a)) ‖ Bern(σ(b))) of logits a and b of one shape, element by element, in nats.

    >>> from torch import tensor
    >>> halves, quarter = tensor([0.0]).double(), tensor([1 / 3]).double().log()
    >>> round(binary_divergences(halves, quarter).item(), 6)  # of 1/2 from 1/4: ln(2/√3)
    0.143841
    """
    p = torch.sigmoid(first)
    present = p * (F.logsigmoid(first) - F.logsigmoid(second))
    return present + (1 - p) * (F.logsigmoid(-first) - F.logsigmoid(-second))


def average_precisions(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the average precision of each label (K,), float64; NaN for a label that no example has.

    AP_k = Σ_n (R_n − R_{n−1})·P_n over the distinct logits, from the highest down, R_n and P_n being recall
    and precision of the examples down to the n-th: equal logits come in together, however they are ordered.
    Shapes: (N, K), (N, K). Source: scikit-learn, average_precision_score.

    >>> from torch import tensor
    >>> average_precisions(tensor([[3.0], [2.0], [1.0]]), tensor([[1], [0], [1]])).tolist()  # (1 + 2/3)/2
    [0.8333333333333333]
    """
    return torch.stack([_average_precision(*column) for column in zip(logits.T, labels.T, strict=True)])


def _average_precision(logits: Tensor, labels: Tensor) -> Tensor:
    ranked, order = logits.sort(descending=True)
    positive = labels[order].double()
    rank = torch.arange(1, len(ranked) + 1, device=ranked.device)
    # The last place of the examples that share a logit, of which precision is taken.
    is_last = torch.cat([ranked[1:] != ranked[:-1], torch.ones_like(ranked[:1], dtype=torch.bool)])
    last = rank.masked_fill(~is_last, len(ranked)).flip(0).cummin(0).values.flip(0)
    precision = positive.cumsum(0)[last - 1] / last
    return (precision * positive).sum() / positive.sum()


def mean_average_precision(logits: Tensor, labels: Tensor) -> float:
    """Return the mean of `average_precisions` over the labels that some example has; NaN without any."""
    return float(average_precisions(logits, labels).nanmean())


class Ranked(Tally):
    """The mean average precision, which takes the logits of all examples together: they are kept."""

    def __init__(self) -> None:
        """Start with none."""
        self._logits: list[Tensor] = []
        self._labels: list[Tensor] = []

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Take in a batch: logits (B, K), labels (B, K)."""
        self._logits.append(logits)
        self._labels.append(labels)

    def value(self) -> float:
        """Return the mean average precision."""
        return mean_average_precision(torch.cat(self._logits), torch.cat(self._labels))


@target("multi_label")
class MultiLabel(Target):
    """Labels are a matrix (N, K) of 0 and 1; L = mean_k BCE(z_k, y_k); the best ranking leads."""

    headline = "map"
    loss_name = "bce"
    figures = ("map", "f1_micro", "f1_macro", "bce")
    tensors: ClassVar[Mapping[str, str]] = {
        "logits": "label_logits",
        "labels": "label_sets",
        "teacher_logits": "teacher_label_logits",
        "features": "features",
        "teacher_features": "teacher_features",
    }

    @classmethod
    def takes(cls, labels: Labels) -> bool:
        """Take a matrix of whole numbers or truth values."""
        return labels.ndim == 2 and (labels.dtype == np.bool_ or np.issubdtype(labels.dtype, np.integer))

    def stored(self, where: str, labels: Labels) -> Labels:
        """Return uint8 (N, K); raises UserError for a number that is neither 0 nor 1."""
        wrong = np.argwhere((labels != 0) & (labels != 1))
        if len(wrong):
            row, column = wrong[0]
            raise UserError(
                f"labels of {where} hold {labels[row, column]} in row {row}, column {column}: a matrix of "
                "labels holds 0 and 1."
            )
        return labels.astype(np.uint8)

    def num_classes(self, where: str, splits: Iterable[Labels]) -> int:
        """Return the number of columns of the first split; ``faults`` compares the others."""
        return next(iter(splits)).shape[1]

    def faults(self, where: str, column: str, labels: Labels, classes: int) -> Iterator[str]:
        """Yield a line where there is not one column a class, and where no example has a label."""
        if not labels.any():
            yield f"no example of {where} has a {column}: add one that has."
        if labels.shape[1] != classes:
            yield (
                f"the {column}s of {where} have {labels.shape[1]} columns, and there are {classes} classes: "
                "give one a class."
            )

    def counts(self, labels: Labels, classes: int) -> NDArray[np.int64]:
        """Return how many examples have each label."""
        return labels[:, :classes].sum(axis=0, dtype=np.int64)

    def strata(self, labels: Labels, classes: Sequence[str]) -> tuple[NDArray[np.int64], Sequence[str]]:
        """Return one stratum: parts are drawn at random from all examples."""
        return np.zeros(len(labels), dtype=np.int64), ("any label",)

    def chance(self, labels: Tensor, classes: int) -> float:
        """Return the mean share of examples that have a label, about the precision of any random ranking."""
        shares = labels.double().mean(0)
        return float(shares[shares > 0].mean())

    def loss(self, logits: Tensor, labels: Tensor, reduction: Literal["mean", "sum"] = "mean") -> Tensor:
        """Return mean_k −[y log σ(z) + (1 − y) log(1 − σ(z))], the mean over examples or their sum."""
        loss = F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
        return loss if reduction == "mean" else loss * len(logits)

    def soft_loss(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """Return T²·mean_k KL(Bern(σ(z_t/T)) ‖ Bern(σ(z_s/T))), the mean over the batch, in nats.

        Distillation of K binary problems, one against the rest, as in Yang et al., "Multi-Label Knowledge
        Distillation", ICCV 2023, arXiv 2308.06453, where it is the sum over the labels and T is 1. The mean
        keeps it at the scale of the hard loss, and T² keeps its gradients there for any T.
        """
        return temperature**2 * binary_divergences(teacher / temperature, student / temperature).mean()

    def tally(self, device: Any) -> Tally:
        """Return a ranking without examples."""
        return Ranked()

    def codes(self, logits: Tensor, labels: Tensor) -> tuple[Labels, Labels]:
        """Return numbers of the label set and of the predicted set, see `set_codes`."""
        return set_codes(labels.cpu().numpy()), set_codes((logits > 0).cpu().numpy())


def set_codes(sets: Labels) -> NDArray[np.uint64]:
    """Return a number (N,) for each row of a matrix (N, K) of 0 and 1, equal for equal rows alone.

    Label k is bit k. Where more than 64 labels do not fit, the number is a hash of them (BLAKE2b, 64 bits).

    >>> set_codes(np.array([[1, 0, 1], [0, 1, 0]])).tolist()
    [5, 2]
    """
    if sets.shape[1] <= BITS:
        places = np.arange(sets.shape[1], dtype=np.uint64)
        return (sets.astype(np.uint64) << places).sum(axis=1, dtype=np.uint64)
    packed = np.packbits(sets.astype(np.bool_), axis=1)
    hashes = [hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in packed]
    return np.frombuffer(b"".join(hashes), dtype="<u8").astype(np.uint64)
