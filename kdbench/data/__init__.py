"""Datasets in memory: sources by name, splits, and batches that are augmented on the device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdbench.data.dataset import Dataset, Description, Split
from kdbench.data.load import describe_dataset, load_dataset
from kdbench.data.registry import Source, dataset_sources

if TYPE_CHECKING:
    from kdbench.data.batches import Augment, Batches

__all__ = [
    "Augment",
    "Batches",
    "Dataset",
    "Description",
    "Source",
    "Split",
    "dataset_sources",
    "describe_dataset",
    "load_dataset",
]


def __getattr__(name: str) -> Any:
    """Import torch only for those who want batches: listing and describing datasets needs none."""
    if name in ("Augment", "Batches"):
        from kdbench.data import batches

        return getattr(batches, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
