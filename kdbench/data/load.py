"""A dataset by name: what a source yields is checked, fitted to the arguments, and split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kdbench.data.augment import Augment
from kdbench.data.checks import check
from kdbench.data.class_order import fields_of_classes, places, refuse_shared_classes
from kdbench.data.dataset import Dataset, Description, Examples, Raw, Split, Streamed
from kdbench.data.footprint import Footprint, footprint
from kdbench.data.images import refit
from kdbench.data.imbalance import long_tailed
from kdbench.data.options import Options
from kdbench.data.registry import Request, Source, resolve, resolve_entry
from kdbench.data.splits import parts
from kdbench.data.stored import Opened, Stored
from kdbench.data.survey import survey
from kdbench.deferred import torch
from kdbench.errors import UserError
from kdbench.memory import as_text
from kdbench.progress import Progress
from kdbench.suite.schema import DatasetEntry
from kdbench.targets import find_target


def load_dataset(
    name: str,
    *,
    root: Path | None = None,
    folder: Path | None = None,
    validation_fraction: float = 0.1,
    split_seed: int = 0,
    imbalance_factor: float = 1.0,
    classes: Sequence[str] | None = None,
    heads: Sequence[str] = (),
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
    Liu et al. 2019). ``classes`` are the names of all classes in another order than that of the source: it
    decides the labels, and nothing about which example is in which split. ``heads`` are further columns of
    labels that every split shall have. ``args`` are those of ``Options`` and of the source.
    Paths in ``name`` are relative to ``folder``, or else to the current one.
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
    source, request = resolve(
        name, root=root, base=folder, split_seed=split_seed, args=args or {}, heads=tuple(heads)
    )
    whole = loaded(name, source, request)
    inputs = request.options.fit(whole.inputs)
    raw = fitted(whole, request.options)
    refuse_shared_classes(name, raw.target, fields_of_classes(classes, imbalance_factor))
    order = None if classes is None else places(name, raw.classes, classes)
    needed = footprint(inputs, raw.extent(), validation_fraction, augment or Augment())
    streamed = needed.streamed(memory_budget)
    if progress and memory_budget is not None:
        progress.note(needed.text(name, memory_budget))
    if progress and streamed:
        progress.note(
            f"reading {name} once for its checksum, mean and std: {as_text(raw.pixels())} of pixels"
        )
    raw = raw.placed(streamed, scratch)
    rest, validation = parts(raw, validation_fraction, split_seed)
    if "validation" not in streamed:
        validation = validation.held()
    if imbalance_factor != 1:
        rest = rest[long_tailed(raw.train.labels[rest], len(raw.classes), imbalance_factor, seed=split_seed)]
    if order is not None:
        raw, validation = raw.relabelled(order), validation.relabelled(order)
    seen = survey(raw, rest)
    return Dataset(
        name=name,
        classes=raw.classes,
        inputs=inputs,
        train=_split(raw.train if len(rest) == len(raw.train) else raw.train.take(rest)),
        validation=_split(validation),
        test=_split(raw.test),
        mean=request.options.mean or seen.mean,
        std=request.options.std or seen.std,
        checksum=seen.checksum,
        heads=raw.heads,
        target=raw.target,
    )


def load_entry(entry: DatasetEntry, **setting: Any) -> Dataset:
    """Read the dataset of a suite; ``setting`` are the arguments of ``load_dataset`` that it does not say."""
    return load_dataset(
        entry.name,
        folder=entry.folder,
        validation_fraction=entry.validation_fraction,
        split_seed=entry.split_seed,
        imbalance_factor=entry.imbalance_factor,
        classes=entry.classes,
        heads=tuple(entry.heads),
        args=entry.args,
        augment=Augment(**entry.augment.model_dump()),
        **setting,
    )


def dataset_checksum(entry: DatasetEntry, *, root: Path | None = None, most: int | None = None) -> str:
    """Return the checksum that the dataset of a suite has when it is loaded, making nothing of it.

    Images on disk are decoded one after the other and not held. Raises UserError as ``load_dataset`` does,
    for data that would have to be downloaded, and for images on disk of more than ``most`` bytes of pixels.
    """
    source, request = resolve_entry(entry, root, download=False)
    raw = fitted(loaded(entry.name, source, request), request.options)
    if entry.classes is not None:
        raw = raw.relabelled(places(entry.name, raw.classes, entry.classes))
    if most is not None and raw.extent().streams and raw.pixels() > most:
        raise UserError(f"{entry.name} is {as_text(raw.pixels())} of pixels, more than {as_text(most)}")
    return survey(raw, np.arange(len(raw.train))).checksum


def describe_dataset(
    name: str,
    *,
    root: Path | None = None,
    folder: Path | None = None,
    args: Mapping[str, Any] | None = None,
) -> Description:
    """Return what a plan needs to know of a dataset, reading no more than that takes.

    The named datasets are not read at all, of folders and parquet files only the listing or the schema
    and the first image; a factory has to be called. Raises UserError as ``load_dataset`` does for what
    is looked at.
    """
    source, request = resolve(name, root=root, base=folder, split_seed=0, args=args or {})
    description = source.describe
    if callable(description):
        description = description(request)
    elif description is None:
        raw = loaded(name, source, request)
        description = Description(raw.inputs, len(raw.classes), raw.target)
    return description._replace(inputs=request.options.fit(description.inputs))


def describe_heads(
    name: str,
    heads: Sequence[str],
    *,
    root: Path | None = None,
    folder: Path | None = None,
    args: Mapping[str, Any] | None = None,
) -> dict[str, tuple[str, ...]]:
    """Return the classes of the further heads that are asked for, in their order, reading no image.

    Raises UserError where a dataset has no such labels.
    """
    if not heads:
        return {}
    source, request = resolve(name, root=root, base=folder, split_seed=0, args=args or {}, heads=tuple(heads))
    assert source.further is not None  # resolve has refused a source without
    return dict(source.further(request))


def dataset_remarks(
    name: str,
    *,
    root: Path | None = None,
    folder: Path | None = None,
    args: Mapping[str, Any] | None = None,
) -> tuple[str, ...]:
    """Return what a person should know of a dataset, such as what is left out, a line each."""
    source, request = resolve(name, root=root, base=folder, split_seed=0, args=args or {})
    return tuple(source.remarks(request)) if source.remarks else ()


def measure_dataset(
    name: str,
    *,
    root: Path | None = None,
    folder: Path | None = None,
    validation_fraction: float = 0.1,
    args: Mapping[str, Any] | None = None,
    augment: Augment | None = None,
) -> Footprint:
    """Return how much memory a dataset takes, decoding nothing.

    The numbers of the named datasets are known; of folders the files are listed, of parquet files the labels
    are read; a factory has to be called. Raises UserError as ``load_dataset`` does for what is looked at.
    """
    source, request = resolve(name, root=root, base=folder, split_seed=0, args=args or {})
    options, extent = request.options, source.extent
    if callable(extent):
        extent = extent(request)
    if extent is None:
        whole = loaded(name, source, request)
        inputs, kept = options.fit(whole.inputs), fitted(whole, options).extent()
    else:
        kept = extent._replace(
            train=min(extent.train, options.limit or extent.train),
            test=min(extent.test, options.limit_test or extent.test),
        )
        inputs = describe_dataset(name, root=root, folder=folder, args=args).inputs
    return footprint(inputs, kept, validation_fraction, augment or Augment())


def loaded(name: str, source: Source, request: Request) -> Raw:
    """Return what a source yields, checked; its images may be on disk still."""
    raw = source.load(request)
    check(name, raw, source.describe, request.fault)
    return raw


def fitted(raw: Raw, options: Options) -> Raw:
    """Apply the limits, then the size and channels that the arguments ask for."""

    def fit(split: str, examples: Examples) -> Examples:
        strata, names = find_target(raw.target).strata(examples.labels, raw.classes)
        rows = options.kept(split, strata, len(names))
        kept = examples if rows is None else examples.take(rows)
        if kept.images is None or isinstance(kept.images, Stored):
            return kept  # what is stored is decoded to the size and channels that are asked for
        return replace(kept, images=refit(kept.images, options.size, options.channels))

    return raw.changed(fit)


def _split(examples: Examples) -> Split | Streamed:
    labels = torch.from_numpy(examples.labels.copy())
    further = {head: torch.from_numpy(column.copy()) for head, column in examples.further.items()}
    fields = {name: torch.from_numpy(values.copy()) for name, values in examples.fields.items()}
    if isinstance(examples.images, Opened):
        return Streamed(examples.images, labels, further, fields)
    images = None if examples.images is None else torch.from_numpy(examples.images)
    return Split(images, labels, further, fields)
