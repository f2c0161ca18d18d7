"""A whole dataset read once, to name everything in it that a run would refuse."""

from __future__ import annotations

from pathlib import Path

from kdbench.data.class_order import fields_of_classes, refuse_shared_classes
from kdbench.data.dataset import Raw
from kdbench.data.imbalance import long_tailed
from kdbench.data.load import fitted, loaded
from kdbench.data.registry import resolve_entry
from kdbench.data.splits import parts
from kdbench.data.stored import Stored
from kdbench.errors import UserError
from kdbench.progress import Progress
from kdbench.suite.schema import DatasetEntry
from kdbench.targets import USUAL

# Of more faults than this the rest are counted only.
MOST_NAMED = 100


class Inspection:
    """What is wrong with a dataset: the first faults in words, and how many there are.

    ``images`` is how many images were read.
    """

    def __init__(self) -> None:
        """Start with none."""
        self.images = 0
        self._faults: dict[str, None] = {}

    def fault(self, text: str) -> None:
        """Add a fault; one that is told twice counts once."""
        self._faults.setdefault(text)

    @property
    def lines(self) -> list[str]:
        """The faults in words, at most ``MOST_NAMED``, and a last line that counts the others."""
        named = list(self._faults)[:MOST_NAMED]
        left = len(self._faults) - len(named)
        return [*named, f"and {left} more: these are the first {MOST_NAMED}."] if left else named


def inspect_entry(
    entry: DatasetEntry,
    *,
    root: Path | None = None,
    decode: bool = True,
    progress: Progress | None = None,
) -> Inspection:
    """Look at the dataset of a suite as a run would, and go on after a fault.

    Found are classes that training does not know, empty classes, labels out of range, splits that are too
    small, and with ``decode`` every image that cannot be read or is unlike the first. Without it images are
    not read, and a source is only looked at where that is a matter of listing files. Raises UserError for a
    dataset that is not known.
    """
    inspection = Inspection()
    source, request = resolve_entry(entry, root, fault=inspection.fault)
    if not decode and not callable(source.describe):
        return inspection
    try:
        whole = loaded(entry.name, source, request)
        raw = fitted(whole, request.options)
        if decode:
            _decode(raw, inspection, progress or Progress())
        request.options.fit(whole.inputs)
        labels = raw.train.labels
        if raw.target == USUAL and not ((labels >= 0) & (labels < len(raw.classes))).all():
            return inspection  # that is a fault already, and such labels cannot be split
        rest, _ = parts(raw, entry.validation_fraction, entry.split_seed)
        shared = fields_of_classes(entry.classes, entry.imbalance_factor)
        refuse_shared_classes(entry.name, raw.target, shared)
        if entry.imbalance_factor != 1:
            long_tailed(
                raw.train.labels[rest], len(raw.classes), entry.imbalance_factor, seed=entry.split_seed
            )
    except UserError as error:
        inspection.fault(str(error))
    return inspection


def _decode(raw: Raw, inspection: Inspection, progress: Progress) -> None:
    splits = raw.splits()
    progress.begin("reading the data", sum(map(len, splits.values())), "image")
    for split, examples in splits.items():
        if not isinstance(examples.images, Stored):
            inspection.images += len(examples)
            continue
        try:
            for count, faults in examples.images.faults():
                inspection.images += count
                progress.advance(inspection.images, split)
                for text in faults:
                    inspection.fault(text)
        except UserError as error:
            # A file that holds many images and ends too early.
            inspection.fault(str(error))
    progress.end(f"{inspection.images:,} images")
