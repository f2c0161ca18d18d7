"""Who is right where: the four joint outcomes of teacher and student, and what follows from them.

Shapes: ``predictions``, ``teacher_predictions`` and ``labels`` (N,). `both_right`, `teacher_only`,
`student_only` and `both_wrong` sum to 1; they describe, so they have no better direction. The flips are two
of them, named and directed as the literature on changing models does.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from kdbench.metrics.quality import share
from kdbench.metrics.registry import metric
from kdbench.metrics.tensors import Undefined

STANTON = "Stanton et al. 2021, arXiv 2106.05945"
FARD = "Milani Fard et al. 2016"
outcome = partial(metric, family="fidelity", range="[0, 1]", scale="percent")


@outcome("churn", title="Churn", direction="lower", source=FARD)
def churn(predictions: Tensor, teacher_predictions: Tensor) -> float:
    """Return the share of examples whose prediction changes from teacher to student: 1 − agreement.

    Shapes: (N,), (N,). Range [0, 1]. It is the sum of `negative_flips`, `positive_flips` and the
    examples that both have wrong in different ways. Source: Milani Fard et al. 2016.

    >>> from torch import tensor
    >>> churn(tensor([0, 1, 1, 2]), tensor([0, 1, 2, 2]))
    0.25
    """
    return share(predictions != teacher_predictions)


@outcome(
    "negative_flips", title="Negative flips (teacher right, student wrong)", direction="lower", source=FARD
)
def negative_flips(predictions: Tensor, teacher_predictions: Tensor, labels: Tensor) -> float:
    """Return the share of examples that the teacher has right and the student wrong: what is lost.

    Shapes: (N,), (N,), (N,). Range [0, 1]. Negative less positive flips are the top-1 accuracy
    lost. Source: Milani Fard et al. 2016.

    >>> from torch import tensor
    >>> negative_flips(tensor([0, 1, 1]), tensor([0, 0, 1]), tensor([0, 0, 0]))
    0.3333333333333333
    """
    return share((predictions != labels) & (teacher_predictions == labels))


@outcome(
    "positive_flips", title="Positive flips (teacher wrong, student right)", direction="higher", source=FARD
)
def positive_flips(predictions: Tensor, teacher_predictions: Tensor, labels: Tensor) -> float:
    """Return the share of examples that the teacher has wrong and the student right: what is gained.

    Shapes: (N,), (N,), (N,). Range [0, 1]. Source: Milani Fard et al. 2016.

    >>> from torch import tensor
    >>> positive_flips(tensor([0, 0, 1]), tensor([0, 1, 1]), tensor([0, 0, 0]))
    0.3333333333333333
    """
    return share((predictions == labels) & (teacher_predictions != labels))


@outcome("both_right", title="Both right", direction="none", source=STANTON)
def both_right(predictions: Tensor, teacher_predictions: Tensor, labels: Tensor) -> float:
    """Return the share of examples that teacher and student have right.

    Shapes: (N,), (N,), (N,). Range [0, 1]. Source: Stanton et al. 2021.

    >>> from torch import tensor
    >>> both_right(tensor([0, 1, 1]), tensor([0, 0, 1]), tensor([0, 0, 0]))
    0.3333333333333333
    """
    return share((predictions == labels) & (teacher_predictions == labels))


@outcome("teacher_only", title="Only the teacher right", direction="none", source=STANTON)
def teacher_only(predictions: Tensor, teacher_predictions: Tensor, labels: Tensor) -> float:
    """Return the share of examples that only the teacher has right; equal to `negative_flips`.

    Shapes: (N,), (N,), (N,). Range [0, 1]. Source: Stanton et al. 2021.

    >>> from torch import tensor
    >>> teacher_only(tensor([0, 1, 1]), tensor([0, 0, 1]), tensor([0, 0, 0]))
    0.3333333333333333
    """
    return negative_flips(predictions, teacher_predictions, labels)


@outcome("student_only", title="Only the student right", direction="none", source=STANTON)
def student_only(predictions: Tensor, teacher_predictions: Tensor, labels: Tensor) -> float:
    """Return the share of examples that only the student has right; equal to `positive_flips`.

    Shapes: (N,), (N,), (N,). Range [0, 1]. Source: Stanton et al. 2021.

    >>> from torch import tensor
    >>> student_only(tensor([0, 1, 1]), tensor([0, 0, 1]), tensor([0, 0, 0]))
    0.0
    """
    return positive_flips(predictions, teacher_predictions, labels)


@outcome("both_wrong", title="Both wrong", direction="none", source=STANTON)
def both_wrong(predictions: Tensor, teacher_predictions: Tensor, labels: Tensor) -> float:
    """Return the share of examples that teacher and student have wrong, in the same way or not.

    Shapes: (N,), (N,), (N,). Range [0, 1]. Source: Stanton et al. 2021.

    >>> from torch import tensor
    >>> both_wrong(tensor([0, 1, 2]), tensor([0, 0, 1]), tensor([0, 0, 0]))
    0.3333333333333333
    """
    return share((predictions != labels) & (teacher_predictions != labels))


@outcome(
    "inherited_errors",
    title="Errors inherited from the teacher",
    direction="none",
    source="Mason-Williams et al. 2025, arXiv 2510.12615",
)
def inherited_errors(predictions: Tensor, teacher_predictions: Tensor, labels: Tensor) -> float:
    """Return how often the student makes the teacher's very mistake: P(ŷ_s = ŷ_t given ŷ_t ≠ y).

    Shapes: (N,), (N,), (N,). Range [0, 1]. Raises Undefined where the teacher is never wrong.
    Source: Mason-Williams et al. 2025.

    >>> from torch import tensor
    >>> inherited_errors(tensor([0, 1, 2]), tensor([0, 1, 1]), tensor([0, 0, 0]))
    0.5
    """
    wrong = teacher_predictions != labels
    if not wrong.any():
        raise Undefined("the teacher is never wrong")
    return share(predictions[wrong] == teacher_predictions[wrong])


@outcome(
    "retention",
    title="Retention of top-1 accuracy",
    direction="higher",
    range="[0, ∞)",
    source="kdbench: top1_s / top1_t",
)
def retention(predictions: Tensor, teacher_predictions: Tensor, labels: Tensor) -> float:
    """Return the student's top-1 accuracy over the teacher's: top1_s / top1_t.

    Shapes: (N,), (N,), (N,). Range [0, ∞): above 1 where the student is better. Raises Undefined where
    the teacher is never right.

    >>> from torch import tensor
    >>> retention(tensor([0, 1, 1]), tensor([0, 0, 1]), tensor([0, 0, 0]))
    0.5
    """
    teacher = int((teacher_predictions == labels).sum())
    if teacher == 0:
        raise Undefined("the teacher is never right")
    return int((predictions == labels).sum()) / teacher


@outcome(
    "retention_chance_corrected",
    title="Retention of top-1 accuracy above chance",
    direction="higher",
    range="(-∞, ∞)",
    source="kdbench: (top1_s − 1/K) / (top1_t − 1/K)",
)
def retention_chance_corrected(
    predictions: Tensor, teacher_predictions: Tensor, labels: Tensor, num_classes: int
) -> float:
    """Return what the student keeps of the teacher's accuracy above chance: (top1_s − 1/K)/(top1_t − 1/K).

    Chance is 1/K, that of a uniform guess, whatever the class frequencies. Shapes: (N,), (N,), (N,).
    Range (−∞, ∞): under 0 where the student is worse than a guess, above 1 where it is better than the
    teacher. Raises Undefined where the teacher is not above chance, because the quotient then has no meaning.

    >>> from torch import tensor
    >>> retention_chance_corrected(tensor([0, 1, 1, 0]), tensor([0, 0, 1, 0]), tensor([0, 0, 0, 0]), 2)
    0.0
    """
    # N·K times numerator and denominator: integers, so that "at chance" is decided exactly.
    student = num_classes * int((predictions == labels).sum()) - len(labels)
    teacher = num_classes * int((teacher_predictions == labels).sum()) - len(labels)
    if teacher <= 0:
        raise Undefined("the teacher is not above chance")
    return student / teacher
