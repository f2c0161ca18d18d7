"""What a source yields, checked before anything is decoded or trained on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from kdbench.data.dataset import Description, Raw
from kdbench.errors import UserError
from kdbench.targets import USUAL, find_target

Fault = Callable[[str], None]


def check(
    name: str, raw: Raw, expected: Description | Callable[..., Description] | None, fault: Fault
) -> None:
    """Report data that cannot be trained on, or is not the dataset that the name stands for.

    ``fault`` is called with a line for each; what leaves nothing to look at further raises UserError.
    """
    num_classes = len(raw.classes)
    target, of_tasks = find_target(raw.target), find_target(USUAL)
    if num_classes < 2:
        raise UserError(f"dataset {name} has {num_classes} class: classification needs two or more.")
    for split, examples in raw.splits().items():
        where = f"the {split} split of {name}"
        if examples.images.dtype != np.uint8:
            raise UserError(f"images of {where} are {examples.images.dtype}: give uint8, 0 to 255.")
        if not len(examples):
            raise UserError(f"{where} has no examples: add some.")
        shape, first = examples.images.shape[1:], raw.train.images.shape[1:]
        if shape != first:
            fault(f"images of {where} are {_text(shape)} and those of train {_text(first)}: make them alike.")
        for text in target.faults(where, "label", examples.labels, num_classes):
            fault(text)
        for task, classes in raw.tasks.items():
            for text in of_tasks.faults(where, task, examples.further[task], len(classes)):
                fault(text)
    _check_classes(name, raw.classes, target.counts(raw.train.labels, num_classes), fault)
    for task, classes in raw.tasks.items():
        if len(classes) < 2:
            raise UserError(f"dataset.tasks: {task} of {name} has {len(classes)} class: leave it out.")
        counts = of_tasks.counts(raw.train.further[task], len(classes))
        _check_classes(f"{task} in {name}", classes, counts, fault)
    if isinstance(expected, Description):
        height, width, channels = raw.train.images.shape[1:]
        found = Description((channels, height, width), num_classes, raw.target)
        if found != expected:
            fault(
                f"the files of {name} hold {num_classes} classes of images of shape {found.input_shape}, not "
                f"{expected.num_classes} of {expected.input_shape}: they are of another dataset."
            )


def _check_classes(where: str, classes: tuple[str, ...], counts: NDArray[np.int64], fault: Fault) -> None:
    for index in np.flatnonzero(counts == 0):
        fault(f"class '{classes[index]}' of {where} has no training example: add some.")


def _text(shape: tuple[int, ...]) -> str:
    height, width, channels = shape
    return f"{height}×{width}×{channels}"
