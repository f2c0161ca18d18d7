"""What a dataset is: examples as a source yields them, and the splits that training and scoring use."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


class Description(NamedTuple):
    """What a plan needs to know of a dataset: ``input_shape`` is (C, H, W)."""

    input_shape: tuple[int, int, int]
    num_classes: int


@dataclass(frozen=True, eq=False)
class Examples:
    """Labelled images in memory: ``images`` uint8 (N, H, W, C), ``labels`` int64 (N,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.labels)

    def take(self, rows: NDArray[np.intp]) -> Examples:
        """Return the examples at ``rows``, in that order."""
        return Examples(self.images[rows], self.labels[rows])


@dataclass(frozen=True, eq=False)
class Raw:
    """What a source yields: its own splits, before kdbench takes a validation part out of train."""

    train: Examples
    test: Examples
    classes: tuple[str, ...]
    validation: Examples | None = None

    def splits(self) -> dict[str, Examples]:
        """Return the splits that are there, by name."""
        found = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: examples for name, examples in found.items() if examples is not None}

    def checksum(self) -> str:
        """Return the SHA-256 of class names, shapes, pixels and labels: what was trained and tested on."""
        digest = hashlib.sha256(json.dumps(self.classes).encode())
        for name, examples in self.splits().items():
            digest.update(json.dumps([name, examples.images.shape]).encode())
            digest.update(np.ascontiguousarray(examples.images).data)
            digest.update(np.ascontiguousarray(examples.labels, dtype="<i8").data)
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Split:
    """One split as tensors: ``images`` uint8 (N, H, W, C), ``labels`` int64 (N,).

    Channels come last so that a gathered batch is in channels_last memory without a copy.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset ready to train on: three splits, and what normalises their pixels.

    ``mean`` and ``std`` hold one number a channel, for pixels scaled to [0, 1]. ``validation`` has no
    rows where none was asked for. ``checksum`` is the SHA-256 of the examples in use (after ``size``,
    ``channels`` and ``limit``), before the validation part was taken out of train.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    mean: tuple[float, ...]
    std: tuple[float, ...]
    checksum: str

    @property
    def num_classes(self) -> int:
        """The number of classes K; labels are 0 .. K − 1."""
        return len(self.classes)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of one example as a model sees it."""
        height, width, channels = self.train.images.shape[1:]
        return channels, height, width
