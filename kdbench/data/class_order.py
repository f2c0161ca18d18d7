"""The order of a dataset's classes, where a suite gives another than that of the source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdbench.data.registry import resolve
from kdbench.errors import UserError, nearest
from kdbench.suite.schema import DatasetEntry
from kdbench.targets import USUAL, find_target


def check_classes(
    entry: DatasetEntry, num_classes: int, *, target: str = USUAL, root: Path | None = None
) -> None:
    """Raise UserError where the ``classes`` of a suite's dataset cannot be an order of its classes.

    Neither they nor ``imbalance`` have a meaning for a target whose classes do not exclude one another.
    Where the names are known without reading the data they are compared, else their number only: then
    ``load_dataset`` refuses wrong names.
    """
    refuse_shared_classes(entry.name, target, fields_of_classes(entry.classes, entry.imbalance_factor))
    if entry.classes is None:
        return
    source, request = resolve(entry.name, root=root, base=entry.folder, split_seed=0, args=entry.args)
    if source.classes is not None:
        places(entry.name, source.classes(request), entry.classes)
    else:
        _check_count(entry.name, num_classes, entry.classes)


def refuse_shared_classes(dataset: str, target: str, fields: Mapping[str, bool]) -> None:
    """Raise UserError for a field that is asked for and has no meaning where classes are not exclusive."""
    for field, is_set in fields.items():
        if is_set and not find_target(target).exclusive:
            raise UserError(
                f"{field}: it is not defined for {dataset}, whose target is {target}: leave it out."
            )


def fields_of_classes(classes: Sequence[str] | None, imbalance_factor: float) -> dict[str, bool]:
    """Return the fields of a dataset that need exclusive classes, and whether each is asked for."""
    return {"dataset.classes": classes is not None, "dataset.imbalance": imbalance_factor != 1}


def places(dataset: str, classes: Sequence[str], order: Sequence[str]) -> NDArray[np.int64]:
    """Return the new label of each of a dataset's classes, given the order of its names that is wanted.

    Raises UserError unless ``order`` has each of ``classes`` once.

    >>> places("d", ("1", "10", "2"), ("1", "2", "10")).tolist()
    [0, 2, 1]
    """
    _check_count(dataset, len(classes), order)
    for name, count in Counter(classes).items():
        if count > 1:
            raise UserError(f"dataset.classes: {dataset} has two classes called '{name}': rename one there.")
    places = {name: place for place, name in enumerate(order)}
    for name in sorted(places.keys() - set(classes), key=places.__getitem__):
        hint = nearest(name, set(classes) - places.keys()) or f" It has: {', '.join(classes[:20])}."
        raise UserError(f"dataset.classes: '{name}' is no class of {dataset}.{hint}")
    return np.array([places[name] for name in classes], dtype=np.int64)


def _check_count(dataset: str, num_classes: int, order: Sequence[str]) -> None:
    for name, count in Counter(order).items():
        if count > 1:
            raise UserError(f"dataset.classes: '{name}' is named twice.")
    if len(order) != num_classes:
        raise UserError(
            f"dataset.classes names {len(order)} classes, {dataset} has {num_classes}: name each of them "
            "once, in the order of the model's outputs."
        )
