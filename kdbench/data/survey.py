"""One pass over a dataset's pixels: what they are known by, and what normalises them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdbench.data.dataset import Raw
from kdbench.data.stored import Stored

# One grey level: a channel that varies less holds nothing but rounding, and must not be blown up.
STD_FLOOR = 1 / 255
_CHUNK = 1024


class Survey(NamedTuple):
    """SHA-256 of the examples, and mean and standard deviation of each channel for pixels in [0, 1]."""

    checksum: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


def survey(raw: Raw, training: NDArray[np.intp]) -> Survey:
    """Look at every example once.

    The checksum is that of class names, shapes, pixels, other fields and labels: what was trained and tested
    on. Mean and standard deviation are those of the rows ``training`` of the train split, the latter at least
    one grey level; from counts of the 256 levels, so that they are exact whatever the order of the images.
    Images on disk are decoded for this, one time; no more than a few hundred of them are held at once.
    """
    trained = np.zeros(len(raw.train), dtype=bool)
    trained[training] = True
    channels = 0 if raw.train.images is None else raw.train.images.shape[-1]
    counts = np.zeros((channels, 256), dtype=np.int64)
    digest = hashlib.sha256(json.dumps(raw.classes).encode())
    for name, examples in raw.splits().items():
        shape = None if examples.images is None else examples.images.shape
        digest.update(json.dumps([name, shape]).encode())
        start = 0
        for chunk in _chunks(examples.images):
            digest.update(np.ascontiguousarray(chunk).data)
            if name == "train":
                counts += _levels(chunk[trained[start : start + len(chunk)]])
            start += len(chunk)
        for field, values in examples.fields.items():
            digest.update(json.dumps([field, values.dtype.name, values.shape]).encode())
            digest.update(np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).data)
        # Checksums of class numbers were recorded without it.
        if examples.labels.ndim > 1:
            digest.update(json.dumps([raw.target, examples.labels.shape]).encode())
        digest.update(np.ascontiguousarray(examples.labels, dtype="<i8").data)
        for head, labels in examples.further.items():
            digest.update(json.dumps([head, raw.heads[head]]).encode())
            digest.update(np.ascontiguousarray(labels, dtype="<i8").data)
    return Survey(digest.hexdigest(), *_moments(counts))


def _chunks(images: NDArray[np.uint8] | Stored | None) -> Iterator[NDArray[np.uint8]]:
    if images is None:
        return iter(())
    if isinstance(images, Stored):
        return images.chunks()
    return (images[start : start + _CHUNK] for start in range(0, len(images), _CHUNK))


def _levels(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return how often each of the 256 levels occurs in each channel, (C, 256)."""
    channels = images.shape[-1]
    return np.stack([np.bincount(images[..., c].ravel(), minlength=256) for c in range(channels)])


def _moments(counts: NDArray[np.int64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    levels = np.arange(256) / 255
    means, deviations = [], []
    for of_channel in counts:
        weights = of_channel / of_channel.sum()
        mean = float(weights @ levels)
        means.append(mean)
        deviations.append(max(float(np.sqrt(weights @ (levels - mean) ** 2)), STD_FLOOR))
    return tuple(means), tuple(deviations)
