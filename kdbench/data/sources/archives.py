"""The datasets that torchvision knows how to fetch: MNIST, Fashion-MNIST, CIFAR and SVHN."""

from __future__ import annotations

import functools
import http.client
import os
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kdbench.data.dataset import Description, Examples, Extent, Raw
from kdbench.data.registry import ROOT_VARIABLE, Request, source
from kdbench.data.sources import parquet
from kdbench.errors import UserError, in_words, unknown

# What torchvision raises for files that are absent or damaged, and for a network that is not there.
_UNREADABLE = (OSError, RuntimeError, ValueError, AssertionError, EOFError, http.client.HTTPException)


def _digits(loaded: Any) -> tuple[Any, Any]:
    return loaded.data.numpy()[..., None], loaded.targets


def _cifar(loaded: Any) -> tuple[Any, Any]:
    return loaded.data, loaded.targets


def _svhn(loaded: Any) -> tuple[Any, Any]:
    return np.ascontiguousarray(loaded.data.transpose(0, 2, 3, 1)), loaded.labels


def _cifar_column(loaded: Any, head: str) -> Any:
    """Return a column of CIFAR's files that torchvision leaves out; their names there are in the plural."""
    ((name, _),) = loaded.train_list if loaded.train else loaded.test_list
    with (Path(loaded.root) / loaded.base_folder / name).open("rb") as file:
        return pickle.load(file, encoding="latin1")[f"{head}s"]


# Krizhevsky 2009, in alphabetical order, as the files number them.
SUPERCLASSES = (
    "aquatic_mammals",
    "fish",
    "flowers",
    "food_containers",
    "fruit_and_vegetables",
    "household_electrical_devices",
    "household_furniture",
    "insects",
    "large_carnivores",
    "large_man-made_outdoor_things",
    "large_natural_outdoor_scenes",
    "large_omnivores_and_herbivores",
    "medium_mammals",
    "non-insect_invertebrates",
    "people",
    "reptiles",
    "small_mammals",
    "trees",
    "vehicles_1",
    "vehicles_2",
)


@dataclass(frozen=True)
class Archive:
    """A dataset as torchvision reads it: its class there, and how to get pixels and labels out of it.

    ``named_classes``: it has names of classes, not the label values only. ``further`` are the classes of the
    heads that its files, which are CIFAR's then, have further labels of.
    """

    title: str
    reference: str
    description: Description
    extent: Extent
    torchvision_name: str
    arrays: Callable[[Any], tuple[Any, Any]]
    named_classes: bool = True
    further: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def read(self, root: Path, *, download: bool, heads: tuple[str, ...]) -> Raw:
        """Read both splits from torchvision's files under ``root``, with the labels of further heads."""
        try:
            from torchvision import datasets
        except ImportError as error:  # on a machine that only reads runs
            raise UserError(
                f"{self.torchvision_name} is read by torchvision, which is not at hand: {error}."
            ) from error

        kind = getattr(datasets, self.torchvision_name)
        splits = []
        for train in (True, False):
            which = {"split": "train" if train else "test"} if kind is datasets.SVHN else {"train": train}
            loaded = kind(str(root), download=download, **which)
            images, labels = self.arrays(loaded)
            further = {head: np.asarray(_cifar_column(loaded, head), dtype=np.int64) for head in heads}
            splits.append(Examples(images, np.asarray(labels, dtype=np.int64), further))
        count = self.description.num_classes
        names = loaded.classes if self.named_classes else range(count)
        classes = {head: self.further[head] for head in heads}
        return Raw(splits[0], splits[1], tuple(str(name) for name in names), heads=classes)


ARCHIVES = {
    "mnist": Archive(
        "70,000 handwritten digits, 28×28 grey",
        "LeCun et al. 1998",
        Description.of_images((1, 28, 28), 10),
        Extent(60_000, 0, 10_000, streams=False),
        "MNIST",
        _digits,
        named_classes=False,
    ),
    "fashion-mnist": Archive(
        "70,000 articles of clothing, 28×28 grey",
        "Xiao et al. 2017, arXiv 1708.07747",
        Description.of_images((1, 28, 28), 10),
        Extent(60_000, 0, 10_000, streams=False),
        "FashionMNIST",
        _digits,
    ),
    "cifar10": Archive(
        "60,000 images of 10 classes, 32×32 RGB",
        "Krizhevsky 2009",
        Description.of_images((3, 32, 32), 10),
        Extent(50_000, 0, 10_000, streams=False),
        "CIFAR10",
        _cifar,
    ),
    "cifar100": Archive(
        "60,000 images of 100 classes, 32×32 RGB",
        "Krizhevsky 2009",
        Description.of_images((3, 32, 32), 100),
        Extent(50_000, 0, 10_000, streams=False),
        "CIFAR100",
        _cifar,
        further={"coarse_label": SUPERCLASSES},
    ),
    "svhn": Archive(
        "99,289 house-number digits, 32×32 RGB (without the extra split)",
        "Netzer et al. 2011",
        Description.of_images((3, 32, 32), 10),
        Extent(73_257, 0, 26_032, streams=False),
        "SVHN",
        _svhn,
        named_classes=False,
    ),
}


def _load(archive: Archive, request: Request) -> Raw:
    """Read parquet files from ROOT/NAME, else torchvision's files from ROOT, else download these."""
    root = request.data_root()
    if (layout := _layout(request)) is not None:
        return parquet.read(layout, request)
    _further(archive, request)
    try:
        return archive.read(root, download=False, heads=request.heads)
    except _UNREADABLE as error:
        if not request.download:
            raise UserError(f"dataset {request.name} is not complete under {root}") from error
        # The folder that a download would make first: torchvision makes the root itself where it is absent.
        existing = next(path for path in (root, *root.absolute().parents) if path.exists())
        if not os.access(existing, os.W_OK):
            raise _absent(request.name, root, f"{root} is not writable", error) from error
    try:
        return archive.read(root, download=True, heads=request.heads)
    except _UNREADABLE as error:
        raise _absent(request.name, root, in_words(error), error) from error


def _layout(request: Request) -> parquet.Layout | None:
    """Return the layout of the dataset's parquet files under the data root, where there are any."""
    if request.root is not None:
        for folder in (request.root / request.name, request.root / request.name.replace("-", "_")):
            if parquet.files_of(folder):
                return parquet.layout(folder, further=request.heads)
    return None


def _extent(archive: Archive, request: Request) -> Extent:
    """Return what parquet files hold, which can be streamed, else the known numbers."""
    layout = _layout(request)
    return archive.extent if layout is None else parquet.read(layout, request).extent()


def _further(archive: Archive, request: Request) -> Mapping[str, tuple[str, ...]]:
    """Return the classes of the further heads that are asked for, without reading an image.

    Raises UserError for a head that there are no labels of.
    """
    layout = _layout(request)
    if layout is not None:
        return layout.heads()
    for head in request.heads:
        if head not in archive.further:
            raise unknown("column of labels", head, archive.further)
    return {head: archive.further[head] for head in request.heads}


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
        further=functools.partial(_further, _archive) if _archive.further else None,
    )(functools.partial(_load, _archive))
