"""Who pays for the compression: how the change from teacher to student differs between classes.

Δ_c = (recall_c of the student − recall_c of the teacher) − (top1 of the student − top1 of the teacher), for
each class c that has a label: what a class loses or gains beyond what all lose or gain. Shapes:
``predictions``, ``teacher_predictions`` and ``labels`` (N,).
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from kdbench.metrics.quality import class_counts, recall_per_class, share
from kdbench.metrics.registry import metric
from kdbench.metrics.tensors import Undefined

HOOKER = "Hooker et al. 2019, arXiv 1911.05248"
disparity = partial(metric, family="disparity", direction="lower", source=HOOKER)


def class_deltas(
    predictions: Tensor, teacher_predictions: Tensor, labels: Tensor, num_classes: int
) -> list[float | None]:
    """Return Δ_c of each class, None for a class without a label: a table, not a column.

    Shapes: (N,), (N,), (N,), N > 0; the list has ``num_classes`` entries in (−2, 2). Weighted by the
    classes' shares of the labels they sum to 0. Raises ValueError where a value is no class.

    >>> from torch import tensor
    >>> class_deltas(tensor([0, 0, 1, 0]), tensor([0, 0, 1, 1]), tensor([0, 0, 1, 1]), 3)
    [0.25, -0.25, None]
    """
    shift = share(predictions == labels) - share(teacher_predictions == labels)
    recalls = recall_per_class(predictions, labels, num_classes)
    theirs = recall_per_class(teacher_predictions, labels, num_classes)
    return [
        None if own is None or their is None else (own - their) - shift
        for own, their in zip(recalls, theirs, strict=True)
    ]


def _deltas(predictions: Tensor, teacher_predictions: Tensor, labels: Tensor) -> Tensor:
    """Return Δ_c of the classes with labels, from the lowest to the highest."""
    classes = 1 + max(int(values.max()) for values in (predictions, teacher_predictions, labels))
    deltas = [d for d in class_deltas(predictions, teacher_predictions, labels, classes) if d is not None]
    if len(deltas) < 2:
        raise Undefined("only one class has labels")
    return labels.new_tensor(deltas, dtype=torch.float64).sort().values


@disparity("worst_class_drop", title="Largest drop of a class beyond that of all", range="[0, 2]")
def worst_class_drop(predictions: Tensor, teacher_predictions: Tensor, labels: Tensor) -> float:
    """Return how much more recall the class that suffers most loses than accuracy falls: max_c −Δ_c.

    Shapes: (N,), (N,), (N,). Range [0, 2]: some class loses at least what all lose. Raises Undefined where
    only one class has labels. Source: Hooker et al. 2019, the normalised difference of recall.

    >>> from torch import tensor
    >>> worst_class_drop(tensor([0, 0, 1, 0]), tensor([0, 0, 1, 1]), tensor([0, 0, 1, 1]))
    0.25
    """
    return max(0.0, -float(_deltas(predictions, teacher_predictions, labels)[0]))


@disparity(
    "worst_decile_drop", title="Mean drop of the worst 10 % of classes beyond that of all", range="[-2, 2]"
)
def worst_decile_drop(predictions: Tensor, teacher_predictions: Tensor, labels: Tensor) -> float:
    """Return the mean of −Δ_c over the ⌈C/10⌉ classes with the lowest Δ_c, of C with labels.

    Steadier than `worst_class_drop`, with which it agrees up to ten classes. Shapes: (N,), (N,), (N,).
    Range [−2, 2]. Raises Undefined where only one class has labels. Source: Hooker et al. 2019.

    >>> from torch import tensor
    >>> worst_decile_drop(tensor([0, 0, 1, 0]), tensor([0, 0, 1, 1]), tensor([0, 0, 1, 1]))
    0.25
    """
    deltas = _deltas(predictions, teacher_predictions, labels)
    return -float(deltas[: -(-len(deltas) // 10)].mean())


@disparity("std_class_delta", title="Spread of the classes' changes", range="[0, 2]")
def std_class_delta(predictions: Tensor, teacher_predictions: Tensor, labels: Tensor) -> float:
    """Return the standard deviation of Δ_c over the classes: √(mean_c (Δ_c − mean_c Δ_c)²).

    The classes are all there are, not a sample: the sum is divided by their number. Shapes: (N,), (N,),
    (N,). Range [0, 2]. Raises Undefined where only one class has labels. Source: Hooker et al. 2019.

    >>> from torch import tensor
    >>> std_class_delta(tensor([0, 0, 1, 0]), tensor([0, 0, 1, 1]), tensor([0, 0, 1, 1]))
    0.25
    """
    return float(_deltas(predictions, teacher_predictions, labels).std(correction=0))


@disparity(
    "worst_class_recall",
    title="Recall of the worst class",
    direction="higher",
    range="[0, 1]",
    source="Sagawa et al. 2020, arXiv 1911.08731, with classes as groups",
)
def worst_class_recall(predictions: Tensor, labels: Tensor) -> float:
    """Return the lowest recall of a class that has labels: min_c (right in c / labelled c).

    Shapes: (N,), (N,). Range [0, 1]. The minimum of many noisy recalls is biased downward: give the number
    of examples a class. Source: Sagawa et al. 2020.

    >>> from torch import tensor
    >>> worst_class_recall(tensor([0, 0, 1, 0]), tensor([0, 0, 1, 1]))
    0.5
    """
    labelled, _, right = class_counts(predictions, labels)
    present = labelled > 0
    return float((right[present].double() / labelled[present]).min())
