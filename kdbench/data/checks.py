"""What a source yields, checked before anything is decoded or trained on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from kdbench.data.dataset import Description, Examples, Raw
from kdbench.errors import UserError
from kdbench.inputs import DTYPES
from kdbench.suite.plain import LONGEST_NAME, of_line
from kdbench.targets import USUAL, find_target

Fault = Callable[[str], None]


def check(
    name: str, raw: Raw, expected: Description | Callable[..., Description] | None, fault: Fault
) -> None:
    """Report data that cannot be trained on, or is not the dataset that the name stands for.

    ``fault`` is called with a line for each; what leaves nothing to look at further raises UserError.
    """
    num_classes = len(raw.classes)
    target, of_heads = find_target(raw.target), find_target(USUAL)
    if num_classes < 2:
        raise UserError(f"dataset {name} has {num_classes} class: classification needs two or more.")
    for split, examples in raw.splits().items():
        where = f"the {split} split of {name}"
        if examples.images is not None and examples.images.dtype != np.uint8:
            raise UserError(f"images of {where} are {examples.images.dtype}: give uint8, 0 to 255.")
        if not len(examples):
            raise UserError(f"{where} has no examples: add some.")
        if examples.images is not None and len(examples.images) != len(examples):
            raise UserError(
                f"{where} has {len(examples.images)} images and {len(examples)} labels: give one an image."
            )
        _check_fields(where, examples)
        _check_shapes(where, examples, raw.train, fault)
        for text in target.faults(where, "label", examples.labels, num_classes):
            fault(text)
        for head, classes in raw.heads.items():
            for text in of_heads.faults(where, head, examples.further[head], len(classes)):
                fault(text)
    _check_names(name, raw.classes, fault)
    trained = target.counts(raw.train.labels, num_classes)
    _check_classes(name, raw.classes, trained, "training", fault)
    if target.exclusive:
        tested = target.counts(raw.test.labels, num_classes)
        _check_classes(name, raw.classes, np.where(trained, tested, 1), "test", fault)
    for head, classes in raw.heads.items():
        if len(classes) < 2:
            raise UserError(f"dataset.heads: {head} of {name} has {len(classes)} class: leave it out.")
        _check_names(f"{head} in {name}", classes, fault)
        counts = of_heads.counts(raw.train.further[head], len(classes))
        _check_classes(f"{head} in {name}", classes, counts, "training", fault)
    if isinstance(expected, Description):
        description = Description(raw.inputs, num_classes, raw.target)
        if description != expected:
            fault(
                f"the files of {name} hold {num_classes} classes of images of {description.inputs}, not "
                f"{expected.num_classes} of {expected.inputs}: they are of another dataset."
            )


def _check_fields(where: str, examples: Examples) -> None:
    for name, values in examples.fields.items():
        if values.dtype.name not in DTYPES:
            raise UserError(f"field '{name}' of {where} is {values.dtype}: give {' or '.join(DTYPES)}.")
        if len(values) != len(examples):
            raise UserError(
                f"{where} has {len(values)} rows of '{name}' and {len(examples)} labels: give one an example."
            )
        if not np.isfinite(values).all():
            raise UserError(f"field '{name}' of {where} has values that are not finite: replace them.")


def _check_shapes(where: str, examples: Examples, train: Examples, fault: Fault) -> None:
    mine, theirs = _shapes(examples), _shapes(train)
    if list(mine) != list(theirs):
        raise UserError(f"{where} has {', '.join(mine)} and train {', '.join(theirs)}: make them alike.")
    for name, shape in mine.items():
        if shape != theirs[name]:
            fault(
                f"{name} of {where} are {_text(shape)} and those of train {_text(theirs[name])}: "
                "make them alike."
            )


def _shapes(examples: Examples) -> dict[str, tuple[int, ...]]:
    """Return the shape of an example's image and of its other fields, by what errors call them."""
    images = {} if examples.images is None else {"images": examples.images.shape[1:]}
    return images | {f"values of '{name}'": values.shape[1:] for name, values in examples.fields.items()}


def _check_names(where: str, classes: tuple[str, ...], fault: Fault) -> None:
    for number, text in enumerate(classes):
        if wrong := of_line(text, LONGEST_NAME):
            fault(f"the name of class {number} of {where} cannot be shown: {wrong}.")


def _check_classes(
    where: str, classes: tuple[str, ...], counts: NDArray[np.int64], kind: str, fault: Fault
) -> None:
    for index in np.flatnonzero(counts == 0):
        fault(f"class '{classes[index]}' of {where} has no {kind} example: add some.")


def _text(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "single numbers"
