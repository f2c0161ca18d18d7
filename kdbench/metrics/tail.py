"""Accuracy by how often a class was seen in training: many, medium, few (Liu et al. 2019, arXiv 1904.05160).

Each is the mean recall of the classes of its group, so that every class counts alike. They are defined
where training is imbalanced: the largest class has at least twice the images of the smallest. Shapes as in
`kdbench.metrics.tensors`.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from kdbench.metrics.quality import class_counts
from kdbench.metrics.registry import metric
from kdbench.metrics.tensors import Undefined

# More than MANY training images, fewer than FEW; what lies between is medium.
MANY, FEW = 100, 20
# Where sizes differ less, the groups would only say on which side of a threshold a class happens to lie.
IMBALANCED = 2.0
SOURCE = "Liu et al. 2019, arXiv 1904.05160"
tail_accuracy = partial(
    metric, family="task", direction="higher", range="[0, 1]", source=SOURCE, scale="percent"
)


@tail_accuracy("accuracy_many", title=f"Accuracy on classes of more than {MANY} training images")
def accuracy_many(predictions: Tensor, labels: Tensor, train_labels: Tensor, num_classes: int) -> float:
    """Return the mean recall over classes of more than 100 training images.

    Shapes: (N,), (N,), (M,). Range [0, 1]. Raises Undefined where training is balanced or no class is so
    large. Source: Liu et al. 2019.

    >>> from torch import tensor
    >>> train = tensor([0] * 101 + [1] * 5)
    >>> accuracy_many(tensor([0, 1, 0, 1]), tensor([0, 0, 1, 1]), train, 2)
    0.5
    """
    return _mean_recall(predictions, labels, _sizes(train_labels, num_classes) > MANY, f"more than {MANY}")


@tail_accuracy("accuracy_medium", title=f"Accuracy on classes of {FEW} to {MANY} training images")
def accuracy_medium(predictions: Tensor, labels: Tensor, train_labels: Tensor, num_classes: int) -> float:
    """Return the mean recall over classes of 20 to 100 training images.

    Shapes: (N,), (N,), (M,). Range [0, 1]. Raises Undefined where training is balanced or no class is of this
    size. Source: Liu et al. 2019.

    >>> from torch import tensor
    >>> train = tensor([0] * 100 + [1] * 19)
    >>> accuracy_medium(tensor([0, 1, 0, 1]), tensor([0, 0, 0, 1]), train, 2)
    0.6666666666666666
    """
    sizes = _sizes(train_labels, num_classes)
    return _mean_recall(predictions, labels, (sizes >= FEW) & (sizes <= MANY), f"{FEW} to {MANY}")


@tail_accuracy("accuracy_few", title=f"Accuracy on classes of fewer than {FEW} training images")
def accuracy_few(predictions: Tensor, labels: Tensor, train_labels: Tensor, num_classes: int) -> float:
    """Return the mean recall over classes of fewer than 20 training images.

    Shapes: (N,), (N,), (M,). Range [0, 1]. Raises Undefined where training is balanced or no class is so
    small. Source: Liu et al. 2019.

    >>> from torch import tensor
    >>> train = tensor([0] * 100 + [1] * 19)
    >>> accuracy_few(tensor([0, 1, 0, 1]), tensor([0, 0, 0, 1]), train, 2)
    1.0
    """
    return _mean_recall(predictions, labels, _sizes(train_labels, num_classes) < FEW, f"fewer than {FEW}")


def _sizes(train_labels: Tensor, num_classes: int) -> Tensor:
    sizes = torch.bincount(train_labels, minlength=num_classes)
    largest, smallest = int(sizes.max()), int(sizes.min())
    if largest < IMBALANCED * smallest:
        raise Undefined(f"training is balanced: {smallest:,} to {largest:,} images a class")
    return sizes


def _mean_recall(predictions: Tensor, labels: Tensor, group: Tensor, text: str) -> float:
    if not group.any():
        raise Undefined(f"no class has {text} training images")
    labelled, _, right = class_counts(predictions, labels, len(group))
    present = group & (labelled > 0)
    if not present.any():
        raise Undefined(f"no test image is of a class that has {text} training images")
    return float((right[present].double() / labelled[present]).mean())
