"""A dataset by name: what a source yields is checked, fitted to the arguments, and split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdbench.data.dataset import Dataset, Description, Examples, Raw, Split
from kdbench.data.images import refit
from kdbench.data.options import Options
from kdbench.data.registry import resolve
from kdbench.data.splits import stratified
from kdbench.errors import UserError

# One grey level: a channel that varies less holds nothing but rounding, and must not be blown up.
STD_FLOOR = 1 / 255
_CHUNK = 1024


def load_dataset(
    name: str,
    *,
    root: Path | None = None,
    validation_fraction: float = 0.1,
    split_seed: int = 0,
    args: Mapping[str, Any] | None = None,
) -> Dataset:
    """Read a dataset into memory and make its train, validation and test splits.

    The validation part is taken out of train, stratified by class, by ``split_seed``;
    ``validation_fraction`` is a share in [0, 1) of the training examples, and 0 leaves the validation
    split empty. A source that ships a validation split gives that one instead, whatever the fraction,
    unless it is 0: then the shipped one is not used. ``args`` are those of ``Options`` and of the source.
    Mean and standard deviation are those of the training part, the latter at least one grey level.

    Raises UserError for a name or argument that is not known, and for data that is absent or unusable.
    """
    if not 0 <= validation_fraction < 1:
        raise UserError(f"validation_fraction is {validation_fraction}: give a number from 0 to below 1.")
    if not 0 <= split_seed < 2**32:
        raise UserError(f"split_seed is {split_seed}: give a whole number from 0 to below 2**32.")
    source, request = resolve(name, root=root, split_seed=split_seed, args=args or {})
    raw = source.load(request)
    _check(name, raw, source.describe)
    raw = _fitted(raw, request.options)
    request.options.check_channels(raw.train.images.shape[-1])
    checksum = raw.checksum()
    train, validation = _validation(raw, validation_fraction, split_seed)
    mean, std = _moments(train.images)
    return Dataset(
        name=name,
        classes=raw.classes,
        train=_tensors(train),
        validation=_tensors(validation),
        test=_tensors(raw.test),
        mean=request.options.mean or mean,
        std=request.options.std or std,
        checksum=checksum,
    )


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
        raw = source.load(request)
        _check(name, raw, None)
        height, width, depth = raw.train.images.shape[1:]
        found = Description((depth, height, width), len(raw.classes))
    options = request.options
    channels, height, width = found.input_shape
    channels = options.channels or channels
    options.check_channels(channels)
    return Description((channels, options.size or height, options.size or width), found.num_classes)


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
        wrong = np.flatnonzero((examples.labels < 0) | (examples.labels >= num_classes))
        if len(wrong):
            raise UserError(
                f"example {wrong[0]} of {where} has the label {examples.labels[wrong[0]]}: labels are "
                f"0 to {num_classes - 1} ({num_classes} classes)."
            )
    missing = np.flatnonzero(np.bincount(raw.train.labels, minlength=num_classes) == 0)
    if len(missing):
        raise UserError(f"class '{raw.classes[missing[0]]}' of {name} has no training example: add some.")
    if isinstance(expected, Description):
        height, width, channels = raw.train.images.shape[1:]
        found = Description((channels, height, width), num_classes)
        if found != expected:
            raise UserError(
                f"the files of {name} hold {num_classes} classes of images of shape {found.input_shape}, not "
                f"{expected.num_classes} of {expected.input_shape}: they are of another dataset."
            )


def _text(shape: tuple[int, ...]) -> str:
    height, width, channels = shape
    return f"{height}×{width}×{channels}"


def _fitted(raw: Raw, options: Options) -> Raw:
    """Apply the limits, then the size and channels that the arguments ask for."""

    def fit(split: str, examples: Examples) -> Examples:
        rows = options.kept(split, examples.labels, len(raw.classes))
        kept = examples if rows is None else examples.take(rows)
        return replace(kept, images=refit(kept.images, options.size, options.channels))

    fitted = {split: fit(split, examples) for split, examples in raw.splits().items()}
    return Raw(fitted["train"], fitted["test"], raw.classes, fitted.get("validation"))


def _validation(raw: Raw, fraction: float, seed: int) -> tuple[Examples, Examples]:
    """Return (train, validation): the shipped validation split, or a stratified part of train."""
    if not fraction:
        nothing = np.zeros(0, dtype=np.intp)
        return raw.train, raw.train.take(nothing)
    if raw.validation is not None:
        return raw.train, raw.validation
    rest, part = stratified(
        raw.train.labels,
        raw.classes,
        fraction,
        seed=seed,
        part="validation",
        mend="Change validation_fraction, or set it to 0.",
    )
    return raw.train.take(rest), raw.train.take(part)


def _moments(images: NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel, of pixels scaled to [0, 1].

    From counts of the 256 levels, exact and without a float copy of the images.
    """
    levels = np.arange(256) / 255
    means, deviations = [], []
    for channel in range(images.shape[-1]):
        counts = np.zeros(256, dtype=np.int64)
        for start in range(0, len(images), _CHUNK):
            counts += np.bincount(images[start : start + _CHUNK, ..., channel].ravel(), minlength=256)
        weights = counts / counts.sum()
        mean = float(weights @ levels)
        means.append(mean)
        deviations.append(max(float(np.sqrt(weights @ (levels - mean) ** 2)), STD_FLOOR))
    return tuple(means), tuple(deviations)


def _tensors(examples: Examples) -> Split:
    import torch

    return Split(torch.from_numpy(examples.images.copy()), torch.from_numpy(examples.labels.copy()))
