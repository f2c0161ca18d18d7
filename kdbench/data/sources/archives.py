"""The datasets that torchvision knows how to fetch: MNIST, Fashion-MNIST, CIFAR and SVHN."""

from __future__ import annotations

import functools
import http.client
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdbench.data.dataset import Description, Examples, Extent, Raw
from kdbench.data.registry import ROOT_VARIABLE, Request, source
from kdbench.data.sources import parquet
from kdbench.errors import UserError

# What torchvision raises for files that are absent or damaged, and for a network that is not there.
_UNREADABLE = (OSError, RuntimeError, ValueError, AssertionError, EOFError, http.client.HTTPException)


def _digits(loaded: Any) -> tuple[Any, Any]:
    return loaded.data.numpy()[..., None], loaded.targets


def _cifar(loaded: Any) -> tuple[Any, Any]:
    return loaded.data, loaded.targets


def _svhn(loaded: Any) -> tuple[Any, Any]:
    return np.ascontiguousarray(loaded.data.transpose(0, 2, 3, 1)), loaded.labels


@dataclass(frozen=True)
class Archive:
    """A dataset as torchvision reads it: its class there, and how to get pixels and labels out of it.

    ``class_name`` is where its names of classes stand, None where they are the label values themselves.
    """

    title: str
    reference: str
    description: Description
    extent: Extent
    torchvision_name: str
    arrays: Callable[[Any], tuple[Any, Any]]
    named_classes: bool = True

    def read(self, root: Path, *, download: bool) -> Raw:
        """Read both splits from torchvision's files under ``root``."""
        from torchvision import datasets

        kind = getattr(datasets, self.torchvision_name)
        splits = []
        for train in (True, False):
            which = {"split": "train" if train else "test"} if kind is datasets.SVHN else {"train": train}
            loaded = kind(str(root), download=download, **which)
            images, labels = self.arrays(loaded)
            splits.append(Examples(images, np.asarray(labels, dtype=np.int64)))
        count = self.description.num_classes
        names = loaded.classes if self.named_classes else range(count)
        return Raw(splits[0], splits[1], tuple(str(name) for name in names))


ARCHIVES = {
    "mnist": Archive(
        "70,000 handwritten digits, 28×28 grey",
        "LeCun et al. 1998",
        Description((1, 28, 28), 10),
        Extent(60_000, 0, 10_000, streams=False),
        "MNIST",
        _digits,
        named_classes=False,
    ),
    "fashion-mnist": Archive(
        "70,000 articles of clothing, 28×28 grey",
        "Xiao et al. 2017, arXiv 1708.07747",
        Description((1, 28, 28), 10),
        Extent(60_000, 0, 10_000, streams=False),
        "FashionMNIST",
        _digits,
    ),
    "cifar10": Archive(
        "60,000 images of 10 classes, 32×32 RGB",
        "Krizhevsky 2009",
        Description((3, 32, 32), 10),
        Extent(50_000, 0, 10_000, streams=False),
        "CIFAR10",
        _cifar,
    ),
    "cifar100": Archive(
        "60,000 images of 100 classes, 32×32 RGB",
        "Krizhevsky 2009",
        Description((3, 32, 32), 100),
        Extent(50_000, 0, 10_000, streams=False),
        "CIFAR100",
        _cifar,
    ),
    "svhn": Archive(
        "99,289 house-number digits, 32×32 RGB (without the extra split)",
        "Netzer et al. 2011",
        Description((3, 32, 32), 10),
        Extent(73_257, 0, 26_032, streams=False),
        "SVHN",
        _svhn,
        named_classes=False,
    ),
}


def _load(archive: Archive, request: Request) -> Raw:
    """Read parquet files from ROOT/NAME, else torchvision's files from ROOT, else download these."""
    root = request.data_root()
    if (found := _in_parquet(request)) is not None:
        return found
    try:
        return archive.read(root, download=False)
    except _UNREADABLE as error:
        # The folder that a download would make first: torchvision makes the root itself where it is absent.
        existing = next(path for path in (root, *root.absolute().parents) if path.exists())
        if not os.access(existing, os.W_OK):
            raise _absent(request.name, root, f"{root} is not writable", error) from error
    try:
        return archive.read(root, download=True)
    except _UNREADABLE as error:
        raise _absent(request.name, root, " ".join(str(error).split()), error) from error


def _in_parquet(request: Request) -> Raw | None:
    """Return the dataset from parquet files under the data root, where there are any."""
    if request.root is not None:
        for folder in (request.root / request.name, request.root / request.name.replace("-", "_")):
            if parquet.files_of(folder):
                return parquet.read(parquet.layout(folder), request)
    return None


def _extent(archive: Archive, request: Request) -> Extent:
    """Return what parquet files hold, which can be streamed, else the known numbers."""
    in_parquet = _in_parquet(request)
    return archive.extent if in_parquet is None else in_parquet.extent()


def _absent(name: str, root: Path, reason: str, error: Exception) -> UserError:
    return UserError(
        f"dataset {name} is not complete under {root} and cannot be downloaded ({reason}): "
        f"point --data-root or {ROOT_VARIABLE} at a folder that holds it."
    )


for _name, _archive in ARCHIVES.items():
    source(
        _name,
        title=_archive.title,
        reference=_archive.reference,
        describe=_archive.description,
        extent=functools.partial(_extent, _archive),
    )(functools.partial(_load, _archive))
