"""A dataset by name: what a source yields is checked, fitted to the arguments, and split."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdbench.data.augment import Augment
from kdbench.data.dataset import Dataset, Description, Examples, Raw, Split, Streamed
from kdbench.data.footprint import Footprint, footprint
from kdbench.data.images import refit
from kdbench.data.imbalance import long_tailed
from kdbench.data.options import Options
from kdbench.data.registry import Request, Source, resolve
from kdbench.data.splits import stratified
from kdbench.data.stored import Opened, Stored
from kdbench.data.survey import survey
from kdbench.entries import DatasetEntry
from kdbench.errors import UserError
from kdbench.memory import as_text
from kdbench.progress import Progress


def load_dataset(
    name: str,
    *,
    root: Path | None = None,
    validation_fraction: float = 0.1,
    split_seed: int = 0,
    imbalance_factor: float = 1.0,
    tasks: Sequence[str] = (),
    args: Mapping[str, Any] | None = None,
    augment: Augment | None = None,
    memory_budget: int | None = None,
    scratch: Path | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Read a dataset and make its train, validation and test splits.

    The validation part is taken out of train, stratified by class, by ``split_seed``;
    ``validation_fraction`` is a share in [0, 1) of the training examples, and 0 leaves the validation
    split empty. A source that ships a validation split gives that one instead, whatever the fraction,
    unless it is 0: then the shipped one is not used. ``imbalance_factor`` makes a long tail of the training
    part, by ``split_seed``, once the validation part is out: validation stays as balanced as the test
    split, so that what is chosen and calibrated on it is judged as it was chosen (as in ImageNet-LT,
    Liu et al. 2019). ``tasks`` are further columns of labels that every split shall have. ``args`` are
    those of ``Options`` and of the source.
    Mean and standard deviation are those of the training part, the latter at least one grey level.

    Images are held in memory, unless the pixels that training with ``augment`` needs are over
    ``memory_budget`` (bytes; None is no limit) and the source can be streamed: then they stay on disk, and
    are decoded once here, for the checksum and the moments, and again in every pass over them. Those of
    parquet files are copied into a file in ``scratch`` (by default where temporary files go), because they
    are read in random order. ``progress`` is told which way it goes. Nothing else about the dataset depends
    on that.

    Raises UserError for a name or argument that is not known, and for data that is absent or unusable.
    """
    if not 0 <= validation_fraction < 1:
        raise UserError(f"validation_fraction is {validation_fraction}: give a number from 0 to below 1.")
    if not 0 <= split_seed < 2**32:
        raise UserError(f"split_seed is {split_seed}: give a whole number from 0 to below 2**32.")
    source, request = resolve(name, root=root, split_seed=split_seed, args=args or {}, tasks=tuple(tasks))
    raw = _fitted(_loaded(name, source, request), request.options)
    request.options.check_channels(raw.train.images.shape[-1])
    needed = footprint(_input_shape(raw), raw.extent(), validation_fraction, augment or Augment())
    streamed = needed.streamed(memory_budget)
    if progress and memory_budget is not None:
        progress.note(needed.text(name, memory_budget))
    if progress and streamed:
        progress.note(
            f"reading {name} once for its checksum, mean and std: {as_text(raw.pixels())} of pixels"
        )
    raw = raw.placed(streamed, scratch)
    rest, validation = _parts(raw, validation_fraction, split_seed)
    if "validation" not in streamed:
        validation = validation.held()
    if imbalance_factor != 1:
        rest = rest[long_tailed(raw.train.labels[rest], len(raw.classes), imbalance_factor, seed=split_seed)]
    seen = survey(raw, rest)
    return Dataset(
        name=name,
        classes=raw.classes,
        train=_split(raw.train if len(rest) == len(raw.train) else raw.train.take(rest)),
        validation=_split(validation),
        test=_split(raw.test),
        mean=request.options.mean or seen.mean,
        std=request.options.std or seen.std,
        checksum=seen.checksum,
        tasks=raw.tasks,
    )


def load_entry(entry: DatasetEntry, **setting: Any) -> Dataset:
    """Read the dataset of a suite; ``setting`` are the arguments of ``load_dataset`` that it does not say."""
    return load_dataset(
        entry.name,
        validation_fraction=entry.validation_fraction,
        split_seed=entry.split_seed,
        imbalance_factor=entry.imbalance_factor,
        tasks=tuple(entry.tasks),
        args=entry.args,
        augment=Augment(**entry.augment.model_dump()),
        **setting,
    )


def dataset_checksum(entry: DatasetEntry, *, root: Path | None = None, most: int | None = None) -> str:
    """Return the checksum that the dataset of a suite has when it is loaded, making nothing of it.

    Images on disk are decoded one after the other and not held. Raises UserError as ``load_dataset`` does,
    for data that would have to be downloaded, and for images on disk of more than ``most`` bytes of pixels.
    """
    seed, tasks = entry.split_seed, tuple(entry.tasks)
    source, request = resolve(
        entry.name, root=root, split_seed=seed, args=entry.args, tasks=tasks, download=False
    )
    raw = _fitted(_loaded(entry.name, source, request), request.options)
    if most is not None and raw.extent().streams and raw.pixels() > most:
        raise UserError(f"{entry.name} is {as_text(raw.pixels())} of pixels, more than {as_text(most)}")
    return survey(raw, np.arange(len(raw.train))).checksum


def describe_dataset(
    name: str, *, root: Path | None = None, args: Mapping[str, Any] | None = None
) -> Description:
    """Return (input_shape, num_classes) of a dataset, reading no more than that takes.

    The named datasets are not read at all, of folders and parquet files only the listing or the schema
    and the first image; a factory has to be called. Raises UserError as ``load_dataset`` does for what
    is looked at.
    """
    source, request = resolve(name, root=root, split_seed=0, args=args or {})
    found = source.describe
    if callable(found):
        found = found(request)
    elif found is None:
        raw = _loaded(name, source, request)
        found = Description(_input_shape(raw), len(raw.classes))
    options = request.options
    channels, height, width = found.input_shape
    channels = options.channels or channels
    options.check_channels(channels)
    return Description((channels, options.size or height, options.size or width), found.num_classes)


def describe_tasks(
    name: str, tasks: Sequence[str], *, root: Path | None = None, args: Mapping[str, Any] | None = None
) -> dict[str, tuple[str, ...]]:
    """Return the classes of the further tasks that are asked for, in their order, reading no image.

    Raises UserError where a dataset has no such labels.
    """
    if not tasks:
        return {}
    source, request = resolve(name, root=root, split_seed=0, args=args or {}, tasks=tuple(tasks))
    assert source.further is not None  # resolve has refused a source without
    return dict(source.further(request))


def measure_dataset(
    name: str,
    *,
    root: Path | None = None,
    validation_fraction: float = 0.1,
    args: Mapping[str, Any] | None = None,
    augment: Augment | None = None,
) -> Footprint:
    """Return how much memory a dataset takes, decoding nothing.

    The numbers of the named datasets are known; of folders the files are listed, of parquet files the labels
    are read; a factory has to be called. Raises UserError as ``load_dataset`` does for what is looked at.
    """
    source, request = resolve(name, root=root, split_seed=0, args=args or {})
    extent = source.extent
    if callable(extent):
        extent = extent(request)
    if extent is None:
        raw = _fitted(_loaded(name, source, request), request.options)
        return footprint(_input_shape(raw), raw.extent(), validation_fraction, augment or Augment())
    options = request.options
    kept = extent._replace(
        train=min(extent.train, options.limit or extent.train),
        test=min(extent.test, options.limit_test or extent.test),
    )
    shape = describe_dataset(name, root=root, args=args).input_shape
    return footprint(shape, kept, validation_fraction, augment or Augment())


def _loaded(name: str, source: Source, request: Request) -> Raw:
    raw = source.load(request)
    _check(name, raw, source.describe)
    return raw


def _input_shape(raw: Raw) -> tuple[int, int, int]:
    height, width, channels = raw.train.images.shape[1:]
    return channels, height, width


def _check(name: str, raw: Raw, expected: Description | Callable[..., Description] | None) -> None:
    """Raise UserError for data that cannot be trained on, or is not the dataset that the name stands for."""
    num_classes = len(raw.classes)
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
            raise UserError(
                f"images of {where} are {_text(shape)} and those of train {_text(first)}: make them alike."
            )
        _check_labels(where, "label", examples.labels, num_classes)
        for task, classes in raw.tasks.items():
            _check_labels(where, task, examples.further[task], len(classes))
    _check_classes(name, raw.classes, raw.train.labels)
    for task, classes in raw.tasks.items():
        if len(classes) < 2:
            raise UserError(f"dataset.tasks: {task} of {name} has {len(classes)} class: leave it out.")
        _check_classes(f"{task} in {name}", classes, raw.train.further[task])
    if isinstance(expected, Description):
        height, width, channels = raw.train.images.shape[1:]
        found = Description((channels, height, width), num_classes)
        if found != expected:
            raise UserError(
                f"the files of {name} hold {num_classes} classes of images of shape {found.input_shape}, not "
                f"{expected.num_classes} of {expected.input_shape}: they are of another dataset."
            )


def _check_labels(where: str, column: str, labels: NDArray[np.int64], classes: int) -> None:
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise UserError(
            f"example {wrong[0]} of {where} has the {column} {labels[wrong[0]]}: labels are "
            f"0 to {classes - 1} ({classes} classes)."
        )


def _check_classes(where: str, classes: tuple[str, ...], labels: NDArray[np.int64]) -> None:
    missing = np.flatnonzero(np.bincount(labels, minlength=len(classes)) == 0)
    if len(missing):
        raise UserError(f"class '{classes[missing[0]]}' of {where} has no training example: add some.")


def _text(shape: tuple[int, ...]) -> str:
    height, width, channels = shape
    return f"{height}×{width}×{channels}"


def _fitted(raw: Raw, options: Options) -> Raw:
    """Apply the limits, then the size and channels that the arguments ask for."""

    def fit(split: str, examples: Examples) -> Examples:
        rows = options.kept(split, examples.labels, len(raw.classes))
        kept = examples if rows is None else examples.take(rows)
        if isinstance(kept.images, Stored):
            return kept  # it is decoded to the size and channels that are asked for
        return replace(kept, images=refit(kept.images, options.size, options.channels))

    return raw.changed(fit)


def _parts(raw: Raw, fraction: float, seed: int) -> tuple[NDArray[np.intp], Examples]:
    """Return the rows of train to train on, and the validation split: the shipped one, or the other rows."""
    everything = np.arange(len(raw.train))
    if not fraction:
        return everything, raw.train.take(everything[:0])
    if raw.validation is not None:
        return everything, raw.validation
    rest, part = stratified(
        raw.train.labels,
        raw.classes,
        fraction,
        seed=seed,
        part="validation",
        mend="Change validation_fraction, or set it to 0.",
    )
    return rest, raw.train.take(part)


def _split(examples: Examples) -> Split | Streamed:
    import torch

    labels = torch.from_numpy(examples.labels.copy())
    further = {task: torch.from_numpy(column.copy()) for task, column in examples.further.items()}
    if isinstance(examples.images, Opened):
        return Streamed(examples.images, labels, further)
    return Split(torch.from_numpy(examples.images), labels, further)
