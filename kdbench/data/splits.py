"""Which examples go where: stratified parts, balanced subsets, and the names of splits on disk."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from kdbench.data.dataset import Examples, Raw
from kdbench.errors import UserError
from kdbench.targets import find_target

# A subset is a property of the dataset, so it does not change with the seed of the validation split.
_SUBSET_SEED = 20150309
VALIDATION_NAMES = ("validation", "valid", "val")


def parts(raw: Raw, fraction: float, seed: int) -> tuple[NDArray[np.intp], Examples]:
    """Return the rows of train to train on, and the validation split: the shipped one, or the other rows.

    Raises UserError where a class is left without an example to train on.
    """
    target, everything = find_target(raw.target), np.arange(len(raw.train))
    if not fraction:
        return everything, raw.train.take(everything[:0])
    if raw.validation is not None:
        return everything, raw.validation
    strata, names = target.strata(raw.train.labels, raw.classes)
    rest, part = stratified(
        strata,
        names,
        fraction,
        seed=seed,
        part="validation",
        mend="Change validation_fraction, or set it to 0.",
    )
    absent = np.flatnonzero(target.counts(raw.train.labels[rest], len(raw.classes)) == 0)
    if len(absent):
        raise UserError(
            f"class '{raw.classes[absent[0]]}' has no example outside of the validation part: change "
            "validation_fraction or split_seed."
        )
    return rest, raw.train.take(part)


def stratified(
    labels: NDArray[np.int64],
    classes: Sequence[str],
    fraction: float,
    *,
    seed: int,
    part: str,
    mend: str,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Split rows at random into (rest, part), class by class, both in ascending order.

    The part holds round(fraction · N) rows, given to the classes in proportion by the largest remainder
    (ties at random), but every class has at least one row on each side; where that leaves no other
    choice the part is a little larger or smaller. ``part`` and ``mend`` complete the errors.

    Raises UserError where a class has fewer than two rows, or either side fewer rows than classes.
    """
    counts = np.bincount(labels, minlength=len(classes))
    total, size = len(labels), round(fraction * len(labels))
    scarce = int(counts.argmin())
    if counts[scarce] < 2:
        raise UserError(
            f"class '{classes[scarce]}' has {counts[scarce]} example{'' if counts[scarce] == 1 else 's'}: "
            f"it cannot be in both the training and the {part} part. {mend}"
        )
    for rows, side in ((size, part), (total - size, "training")):
        if rows < len(classes):
            raise UserError(
                f"{fraction:g} of {total} examples as {part} part leaves {rows} in the {side} part, fewer "
                f"than one a class ({len(classes)} classes). {mend}"
            )
    # RandomState's streams never change between numpy versions, so a seed means one split for ever.
    random = np.random.RandomState(seed)
    shares = _apportion(counts, fraction, size, random)
    chosen = np.zeros(total, dtype=bool)
    for label, share in enumerate(shares):
        rows_of_class = np.flatnonzero(labels == label)
        chosen[random.permutation(rows_of_class)[:share]] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def _apportion(
    counts: NDArray[np.intp], fraction: float, size: int, random: np.random.RandomState
) -> NDArray[np.intp]:
    ideal = fraction * counts
    shares = np.clip(np.floor(ideal).astype(np.intp), 1, counts - 1)
    shuffled = random.permutation(len(counts))
    by_remainder = shuffled[np.argsort((shares - ideal)[shuffled], kind="stable")]
    with_room = by_remainder[shares[by_remainder] < counts[by_remainder] - 1]
    shares[with_room[: max(0, size - int(shares.sum()))]] += 1
    return shares


def balanced(labels: NDArray[np.int64], limit: int) -> NDArray[np.intp]:
    """Return ``limit`` rows (all where there are no more) that hold the classes as evenly as they can.

    Rows are in ascending order, the choice is random but fixed, and a smaller subset is part of a larger.
    """
    shuffled = np.random.RandomState(_SUBSET_SEED).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    ordered = labels[by_class]
    rank = np.arange(len(ordered)) - np.searchsorted(ordered, ordered)
    return np.sort(by_class[np.lexsort((ordered, rank))[:limit]])


def roles(names: Collection[str], where: str) -> dict[str, str]:
    """Return which of the split names found on disk serves as train, test and validation.

    A validation split is the test split where there is no other, as papers use ImageNet's.
    Raises UserError where the training or the test split is missing.
    """
    validation = next((name for name in VALIDATION_NAMES if name in names), None)
    assigned = {name: name for name in ("train", "test") if name in names}
    if validation is not None:
        assigned["validation" if "test" in assigned else "test"] = validation
    for role in ("train", "test"):
        if role not in assigned:
            has = f"only {', '.join(sorted(names))}" if names else "no split"
            raise UserError(f"{where} has no {role} split ({has}): add '{role}'.")
    return assigned
