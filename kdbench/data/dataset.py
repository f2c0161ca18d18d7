"""What a dataset is: examples as a source yields them, and the splits that training and scoring use."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from kdbench.data.stored import Opened, Stored
from kdbench.deferred import Tensor
from kdbench.heads import PRIMARY
from kdbench.inputs import IMAGE, Field, InputSpec
from kdbench.targets import USUAL, Labels

Images = TypeVar("Images")


class Description(NamedTuple):
    """What a plan needs to know of a dataset; ``target`` is one of the targets."""

    inputs: InputSpec
    num_classes: int
    target: str = USUAL

    @classmethod
    def of_images(cls, shape: tuple[int, int, int], num_classes: int) -> Description:
        """Return the description of a dataset of images (C, H, W) and nothing else."""
        return cls(InputSpec.image(shape), num_classes)


class Extent(NamedTuple):
    """How many examples the splits of a source hold; those of ``validation`` are a split that it ships.

    ``streams``: its images are on disk such that they can be read while a model trains.
    """

    train: int
    validation: int
    test: int
    streams: bool


@dataclass(frozen=True, eq=False)
class Examples:
    """Labelled examples: ``images`` uint8 (N, H, W, C), in memory or on disk, and ``labels`` int64 (N,).

    Where an example may have several labels they are uint8 (N, K), 0 or 1 for each. ``further`` are the
    labels (N,) of further heads, by the name of the head. ``fields`` are what a model is shown beside the
    image, or in its place where there is none: float32 or int64 (N, ...), by name.
    """

    images: NDArray[np.uint8] | Stored | None
    labels: Labels
    further: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    fields: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.labels)

    def take(self, rows: NDArray[np.intp]) -> Examples:
        """Return the examples at ``rows``, in that order."""
        further = {head: labels[rows] for head, labels in self.further.items()}
        fields = {name: values[rows] for name, values in self.fields.items()}
        images = None if self.images is None else self.images[rows]
        return Examples(images, self.labels[rows], further, fields)

    def relabelled(self, places: NDArray[np.int64]) -> Examples:
        """Return the examples with ``places[label]`` for each label."""
        return replace(self, labels=places[self.labels])

    def held(self) -> Examples:
        """Return the examples with their images in memory."""
        return replace(self, images=self.images.read()) if isinstance(self.images, Stored) else self

    def opened(self, scratch: Path | None) -> Examples:
        """Return the examples with those images that are on disk ready to be read in any order."""
        return replace(self, images=self.images.opened(scratch)) if isinstance(self.images, Stored) else self


@dataclass(frozen=True, eq=False)
class Raw:
    """What a source yields: its own splits, before kdbench takes a validation part out of train.

    ``heads`` holds the classes of the further heads that every split has labels of, ``target`` is what the
    labels of its own are.
    """

    train: Examples
    test: Examples
    classes: tuple[str, ...]
    validation: Examples | None = None
    heads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    target: str = USUAL

    def splits(self) -> dict[str, Examples]:
        """Return the splits that are there, by name."""
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: examples for name, examples in splits.items() if examples is not None}

    def placed(self, streamed: Collection[str], scratch: Path | None) -> Raw:
        """Return the splits with their images in memory, but for those named, which stay on disk.

        Files that reading these needs are made in ``scratch``, or else where temporary files go.
        """
        return self.changed(
            lambda name, examples: examples.opened(scratch) if name in streamed else examples.held()
        )

    def changed(self, change: Callable[[str, Examples], Examples]) -> Raw:
        """Return the dataset with each split replaced by what ``change`` makes of its name and examples."""
        train, test = change("train", self.train), change("test", self.test)
        validation = None if self.validation is None else change("validation", self.validation)
        return replace(self, train=train, test=test, validation=validation)

    def relabelled(self, places: NDArray[np.int64]) -> Raw:
        """Return the dataset with class k at ``places[k]``."""
        classes = tuple(self.classes[old] for old in np.argsort(places))
        changed = self.changed(lambda _, examples: examples.relabelled(places))
        return replace(changed, classes=classes)

    def pixels(self) -> int:
        """Return how many bytes the images of all splits have."""
        images = [examples.images for examples in self.splits().values()]
        return sum(0 if of_split is None else math.prod(of_split.shape) for of_split in images)

    @property
    def inputs(self) -> InputSpec:
        """What a model is shown: the image, then the other fields in the range that all splits have."""
        fields: dict[str, Field] = {}
        if self.train.images is not None:
            height, width, channels = self.train.images.shape[1:]
            fields[IMAGE] = Field((channels, height, width))
        for name, values in self.train.fields.items():
            splits = [examples.fields[name] for examples in self.splits().values()]
            low, high = min(column.min() for column in splits), max(column.max() for column in splits)
            fields[name] = Field(values.shape[1:], values.dtype.name, low.item(), high.item())
        return InputSpec(fields)

    def extent(self) -> Extent:
        """Return the number of examples of each split, and whether they are on disk still."""
        validation = 0 if self.validation is None else len(self.validation)
        return Extent(len(self.train), validation, len(self.test), isinstance(self.train.images, Stored))


@dataclass(frozen=True, eq=False)
class _Part(Generic[Images]):
    """One split; images, labels and fields are those of ``Examples``, all but the images as tensors."""

    images: Images
    labels: Tensor
    further: Mapping[str, Tensor] = field(default_factory=dict)
    fields: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.labels)


class Split(_Part["Tensor | None"]):
    """One split whose images are a tensor.

    Channels come last so that a gathered batch is in channels_last memory without a copy.
    """


class Streamed(_Part[Opened]):
    """One split whose images are read from disk again in every pass."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset ready to train on: three splits, and what normalises their pixels.

    ``inputs`` is what a model is shown. ``mean`` and ``std`` hold one number a channel of the image, for
    pixels scaled to [0, 1], and none where there is no image. ``validation`` has no
    rows where none was asked for. ``checksum`` is the SHA-256 of the examples in use (after ``size``,
    ``channels`` and ``limit``), before the validation part was taken out of train and before imbalance.
    ``heads`` holds the classes of the heads that its splits have further labels of, ``target`` is what the
    labels of its own are.
    """

    name: str
    classes: tuple[str, ...]
    inputs: InputSpec
    train: Split | Streamed
    validation: Split | Streamed
    test: Split | Streamed
    mean: tuple[float, ...]
    std: tuple[float, ...]
    checksum: str
    heads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    target: str = USUAL

    @property
    def way(self) -> Literal["memory", "streamed"]:
        """Where training images come from; the other splits are in memory wherever these are."""
        return "streamed" if isinstance(self.train, Streamed) else "memory"

    @property
    def num_classes(self) -> int:
        """The number of classes K."""
        return len(self.classes)

    @property
    def outputs(self) -> dict[str, int]:
        """How many classes each head has: the dataset's own, which has no name, then the further ones."""
        return {PRIMARY: len(self.classes)} | {head: len(classes) for head, classes in self.heads.items()}
