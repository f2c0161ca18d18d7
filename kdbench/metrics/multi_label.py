"""Data with several labels an example: how well each label is ranked and decided, and the teacher followed.

Shapes: ``label_logits``, ``teacher_label_logits`` (N, K) and ``label_sets`` (N, K) of 0 and 1;
``label_predictions`` and ``teacher_label_predictions`` (N, K), what is predicted, σ(z) > ½.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor
from torch.nn.functional import logsigmoid

from kdbench.metrics.quality import share
from kdbench.metrics.registry import metric
from kdbench.metrics.tensors import Undefined, declare, derive, per_example
from kdbench.targets.multi_label import binary_divergences, mean_average_precision

declare("label_logits", "NK", "real", "the student's logits of the labels")
declare("label_sets", "NK", "set", "the labels of each example")
declare("teacher_label_logits", "NK", "real", "the teacher's logits of the labels")

proportion = partial(metric, family="task", direction="higher", range="[0, 1]", scale="percent")


def predicted_labels(label_logits: Tensor) -> Tensor:
    """Return which labels are predicted (N, K): those whose logit is above 0, the probability above ½."""
    return label_logits > 0


derive("label_predictions", "NK", predicted_labels, ("label_logits",))
derive("teacher_label_predictions", "NK", predicted_labels, ("teacher_label_logits",))


@proportion(
    "map", title="Mean average precision", source="scikit-learn, average_precision_score(average='macro')"
)
def mean_precision(label_logits: Tensor, label_sets: Tensor) -> float:
    """Return the mean over labels of the average precision: mean_k Σ_n (R_n − R_{n−1})·P_n.

    R_n and P_n are recall and precision of the examples with the highest logits of a label; equal logits come
    in together. A label that no example of the split has is left out. Shapes: (N, K), (N, K). Range [0, 1].
    Raises Undefined where no example has a label. Source: scikit-learn, average_precision_score.

    >>> from torch import tensor
    >>> mean_precision(tensor([[3.0, 0.0], [2.0, 0.0], [1.0, 0.0]]), tensor([[1, 0], [0, 0], [1, 0]]))
    0.8333333333333333
    """
    if not label_sets.any():
        raise Undefined("no example has a label")
    return mean_average_precision(label_logits, label_sets)


def _f1(predictions: Tensor, sets: Tensor) -> tuple[Tensor, Tensor]:
    """Return numerator and denominator of each label's F1 (K,): 2·TP and labelled + predicted."""
    right = (predictions.bool() & sets.bool()).sum(0)
    return 2 * right, sets.bool().sum(0) + predictions.bool().sum(0)


@proportion("f1_micro", title="F1 over all labels (micro)", source="scikit-learn, f1_score(average='micro')")
def f1_micro(label_predictions: Tensor, label_sets: Tensor) -> float:
    """Return F1 of all decisions together: 2·Σ_k right_k / Σ_k (labelled_k + predicted_k).

    Frequent labels count more. Shapes: (N, K), (N, K). Range [0, 1]. Raises Undefined where no label is there
    or predicted. Source: scikit-learn, f1_score.

    >>> from torch import tensor
    >>> f1_micro(tensor([[1, 1], [1, 0]]), tensor([[1, 0], [1, 0]]))
    0.8
    """
    right, total = _f1(label_predictions, label_sets)
    if not total.any():
        raise Undefined("no label is there or predicted")
    return int(right.sum()) / int(total.sum())


@proportion(
    "f1_macro",
    title="F1, mean over labels (macro)",
    source="scikit-learn, f1_score(average='macro', zero_division=nan)",
)
def f1_macro(label_predictions: Tensor, label_sets: Tensor) -> float:
    """Return the mean F1 over labels: mean_k 2·right_k / (labelled_k + predicted_k).

    Every label counts alike; one that is neither there nor predicted is left out. Shapes: (N, K), (N, K).
    Range [0, 1]. Raises Undefined where no label is there or predicted. Source: scikit-learn, f1_score.

    >>> from torch import tensor
    >>> f1_macro(tensor([[1, 1], [1, 0]]), tensor([[1, 0], [1, 0]]))
    0.5
    """
    right, total = _f1(label_predictions, label_sets)
    if not total.any():
        raise Undefined("no label is there or predicted")
    present = total > 0
    return float((right[present].double() / total[present]).mean())


@proportion(
    "exact_match",
    title="Exact match of the label sets",
    source="scikit-learn, accuracy_score (subset accuracy)",
)
def exact_match(label_predictions: Tensor, label_sets: Tensor) -> float:
    """Return the share of examples of which every label is decided right.

    Shapes: (N, K), (N, K). Range [0, 1]. Source: scikit-learn, accuracy_score.

    >>> from torch import tensor
    >>> exact_match(tensor([[1, 1], [1, 0]]), tensor([[1, 0], [1, 0]]))
    0.5
    """
    return share((label_predictions.bool() == label_sets.bool()).all(1))


@proportion("hamming_accuracy", title="Hamming accuracy", source="scikit-learn, 1 − hamming_loss")
def hamming_accuracy(label_predictions: Tensor, label_sets: Tensor) -> float:
    """Return the share of decisions, one a label and example, that are right.

    Shapes: (N, K), (N, K). Range [0, 1]; high without any skill where labels are rare. Source: scikit-learn,
    hamming_loss.

    >>> from torch import tensor
    >>> hamming_accuracy(tensor([[1, 1], [1, 0]]), tensor([[1, 0], [1, 0]]))
    0.75
    """
    return share((label_predictions.bool() == label_sets.bool()).flatten())


@metric(
    "bce",
    title="Binary cross-entropy",
    family="task",
    direction="lower",
    range="[0, ∞)",
    unit="nats",
    source="scikit-learn, log_loss of each label",
)
def bce(label_logits: Tensor, label_sets: Tensor) -> float:
    """Return the mean over examples and labels of −[y log σ(z) + (1 − y) log(1 − σ(z))].

    Shapes: (N, K), (N, K). Range [0, ∞), in nats. Source: scikit-learn, log_loss.

    >>> from torch import tensor
    >>> round(bce(tensor([[0.0, 0.0]]), tensor([[1, 0]])), 6)
    0.693147
    """

    def loss(rows: Tensor, sets: Tensor) -> Tensor:
        z = rows.double()
        return -logsigmoid(z.where(sets.bool(), -z)).mean(1)

    return float(per_example(loss, label_logits, label_sets).mean())


@proportion(
    "set_agreement",
    title="Agreement on the label sets",
    family="fidelity",
    source="Stanton et al. 2021, arXiv 2106.05945, of label sets",
)
def set_agreement(label_predictions: Tensor, teacher_label_predictions: Tensor) -> float:
    """Return the share of examples for which both predict the same set of labels.

    Shapes: (N, K), (N, K). Range [0, 1]. Source: Stanton et al. 2021, of label sets.

    >>> from torch import tensor
    >>> set_agreement(tensor([[1, 1], [1, 0]]), tensor([[1, 0], [1, 0]]))
    0.5
    """
    return exact_match(label_predictions, teacher_label_predictions)


@proportion(
    "label_agreement",
    title="Agreement on single labels",
    family="fidelity",
    source="Stanton et al. 2021, arXiv 2106.05945, of single labels",
)
def label_agreement(label_predictions: Tensor, teacher_label_predictions: Tensor) -> float:
    """Return the share of decisions, one a label and example, in which both agree.

    Shapes: (N, K), (N, K). Range [0, 1]. Source: Stanton et al. 2021, of single labels.

    >>> from torch import tensor
    >>> label_agreement(tensor([[1, 1], [1, 0]]), tensor([[1, 0], [1, 0]]))
    0.75
    """
    return hamming_accuracy(label_predictions, teacher_label_predictions)


@metric(
    "binary_kl",
    title="KL(teacher ‖ student), mean over labels",
    family="fidelity",
    direction="lower",
    range="[0, ∞)",
    unit="nats",
    source="Yang et al. 2023, arXiv 2308.06453",
)
def binary_kl(label_logits: Tensor, teacher_label_logits: Tensor) -> float:
    """Return the mean over examples and labels of KL(Bern(σ(z_t)) ‖ Bern(σ(z_s))).

    Shapes: (N, K), (N, K). Range [0, ∞), in nats. Source: Yang et al. 2023, there the sum over labels.

    >>> from torch import tensor
    >>> round(binary_kl(tensor([[1 / 3]]).log(), tensor([[0.0]])), 6)
    0.143841
    """

    def divergence(student: Tensor, teacher: Tensor) -> Tensor:
        return binary_divergences(teacher.double(), student.double()).clamp_(min=0).mean(1)

    return float(per_example(divergence, label_logits, teacher_label_logits).mean())
