"""How good the predictions are: accuracy in its forms, likelihood, the Brier score.

Shapes, here as everywhere in the package: ``logits`` and ``log_probs`` (N, K), ``predictions`` and ``labels``
(N,), ``train_predictions`` and ``train_labels`` (M,).
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from kdbench.metrics.registry import metric
from kdbench.metrics.tensors import Undefined, per_example

accuracy = partial(metric, family="task", direction="higher", range="[0, 1]", scale="percent")


def share(mask: Tensor) -> float:
    """Return the share of true entries of a mask (N,), the exact quotient of two integers."""
    return int(mask.sum()) / len(mask)


@accuracy("top1", title="Top-1 accuracy", source="scikit-learn, accuracy_score")
def top1(predictions: Tensor, labels: Tensor) -> float:
    """Return the share of examples whose predicted class is the label: mean 1[ŷ = y].

    Shapes: (N,), (N,). Range [0, 1]. Among equal logits the lowest class is predicted, so a
    constant model is not counted right everywhere. Source: scikit-learn, accuracy_score.

    >>> from torch import tensor
    >>> top1(tensor([0, 1, 1]), tensor([0, 1, 2]))
    0.6666666666666666
    """
    return share(predictions == labels)


@accuracy("top5", title="Top-5 accuracy", source="Russakovsky et al. 2015, arXiv 1409.0575")
def top5(logits: Tensor, labels: Tensor) -> float:
    """Return the share of examples whose label is among the five highest logits.

    Shapes: (N, K), (N,). Range [0, 1]. Of equal logits the lower class ranks first, as for `top1`.
    Raises Undefined unless K > 5: with fewer it is 1 whatever the model. Source: Russakovsky et al. 2015.

    >>> from torch import tensor
    >>> top5(tensor([[6.0, 5.0, 4.0, 3.0, 2.0, 1.0]] * 2), tensor([4, 5]))
    0.5
    """
    if logits.shape[1] <= 5:
        raise Undefined("top-5 needs more than 5 classes")
    classes = torch.arange(logits.shape[1], device=logits.device)

    def rank(rows: Tensor, targets: Tensor) -> Tensor:
        own = rows.gather(1, targets[:, None])
        ahead = (rows > own) | ((rows == own) & (classes < targets[:, None]))
        return ahead.sum(dim=1)

    return share(per_example(rank, logits, labels) < 5)


def class_counts(predictions: Tensor, labels: Tensor, num_classes: int = 0) -> list[Tensor]:
    """Return how often each class is the label, is predicted, and is both: three tensors (K,).

    K is ``num_classes``, or as many as the classes that occur need.
    """
    length = num_classes or _classes_in_use(predictions, labels)
    counted = (labels, predictions, labels[predictions == labels])
    return [torch.bincount(classes, minlength=length) for classes in counted]


def _classes_in_use(predictions: Tensor, labels: Tensor) -> int:
    return 1 + max(int(predictions.max()), int(labels.max()))


@accuracy(
    "balanced_accuracy",
    title="Balanced accuracy",
    source="Brodersen et al. 2010; scikit-learn, balanced_accuracy_score",
)
def balanced_accuracy(predictions: Tensor, labels: Tensor) -> float:
    """Return the mean recall over classes: mean_c (right in c / labelled c).

    Shapes: (N,), (N,). Range [0, 1]. As in scikit-learn, a class without a label in the split has no
    recall and is left out of the mean. Source: Brodersen et al. 2010.

    >>> from torch import tensor
    >>> balanced_accuracy(tensor([0, 0, 0, 2]), tensor([0, 0, 2, 2]))
    0.75
    """
    labelled, _, right = class_counts(predictions, labels)
    present = labelled > 0
    return float((right[present].double() / labelled[present]).mean())


@accuracy("macro_f1", title="Macro F1", source="scikit-learn, f1_score(average='macro')")
def macro_f1(predictions: Tensor, labels: Tensor) -> float:
    """Return the mean F1 over classes: mean_c 2·right_c / (labelled_c + predicted_c).

    Shapes: (N,), (N,). Range [0, 1]. As in scikit-learn (f1_score, its source), the mean is over the
    classes that occur in the labels or in the predictions: a class that is only predicted counts as 0,
    one that is in neither is left out.

    >>> from torch import tensor
    >>> macro_f1(tensor([0, 0, 1]), tensor([0, 0, 2]))
    0.3333333333333333
    """
    labelled, predicted, right = class_counts(predictions, labels)
    total = labelled + predicted
    present = total > 0
    return float((2 * right[present].double() / total[present]).mean())


@metric(
    "nll",
    title="Negative log-likelihood",
    family="task",
    direction="lower",
    range="[0, ∞)",
    unit="nats",
    source="Gneiting & Raftery 2007",
)
def nll(log_probs: Tensor, labels: Tensor) -> float:
    """Return the mean negative log-probability of the label: −mean log p_y.

    Shapes: (N, K), (N,). Range [0, ∞), in nats. Nothing is clipped: a label of probability
    e^−20000 costs 20000. Source: Gneiting & Raftery 2007.

    >>> from torch import tensor
    >>> nll(tensor([[0.5, 0.5], [0.25, 0.75]]).double().log(), tensor([0, 0]))
    1.0397207708399179
    """
    return -float(log_probs.gather(1, labels[:, None]).mean())


@metric(
    "brier",
    title="Brier score",
    family="task",
    direction="lower",
    range="[0, 2]",
    source="Brier 1950",
)
def brier(log_probs: Tensor, labels: Tensor) -> float:
    """Return the mean squared distance of the probabilities from the label: mean Σ_k (p_k − 1[y = k])².

    Shapes: (N, K), (N,). Range [0, 2]: this is Brier's sum over all classes. Others halve it, or,
    with two classes, count one class only; both give half of this value. Source: Brier 1950.

    >>> from torch import tensor
    >>> brier(tensor([[0.5, 0.5], [0.25, 0.75]]).double().log(), tensor([0, 1]))
    0.3125
    """

    def distance(rows: Tensor, targets: Tensor) -> Tensor:
        error = rows.exp()
        error[torch.arange(len(error), device=error.device), targets] -= 1
        return error.square_().sum(dim=1)

    return float(per_example(distance, log_probs, labels).mean())


@accuracy(
    "generalization_gap",
    title="Generalization gap (top-1, train − test)",
    direction="lower",
    range="[-1, 1]",
    source="Jiang et al. 2019, arXiv 1810.00113",
)
def generalization_gap(
    predictions: Tensor, labels: Tensor, train_predictions: Tensor, train_labels: Tensor
) -> float:
    """Return the top-1 accuracy on the train split less that on the measured split.

    Shapes: (N,), (N,), (M,), (M,). Range [−1, 1]. The train predictions are those in evaluation mode,
    without augmentation: those made while training are of earlier weights and of altered images.
    Source: Jiang et al. 2019.

    >>> from torch import tensor
    >>> generalization_gap(tensor([0, 1]), tensor([0, 0]), tensor([1]), tensor([1]))
    0.5
    """
    return share(train_predictions == train_labels) - share(predictions == labels)


def recall_per_class(predictions: Tensor, labels: Tensor, num_classes: int) -> list[float | None]:
    """Return the recall of each class, None for a class without a label: a table, not a column.

    Shapes: (N,), (N,), both with values from 0 to ``num_classes`` − 1; the list has ``num_classes``
    entries in [0, 1]. Raises ValueError where shapes disagree or a value is no class.

    >>> from torch import tensor
    >>> recall_per_class(tensor([0, 1, 0]), tensor([0, 0, 2]), 4)
    [0.5, None, 0.0, None]
    """
    if predictions.shape != labels.shape or labels.ndim != 1:
        shapes = f"{tuple(predictions.shape)} and {tuple(labels.shape)}"
        raise ValueError(f"predictions and labels have shapes {shapes}, expected (N,) twice")
    if len(labels) and _classes_in_use(predictions, labels) > num_classes:
        raise ValueError(f"predictions and labels hold classes beyond {num_classes - 1}")
    labelled, _, right = class_counts(predictions, labels, num_classes)
    return [r / n if n else None for r, n in zip(right.tolist(), labelled.tolist(), strict=True)]
