"""Datasets, in memory or streamed from disk: sources by name, splits, and augmented batches on a device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdbench.data.augment import Augment
from kdbench.data.class_order import check_classes
from kdbench.data.dataset import Dataset, Description, Split, Streamed
from kdbench.data.footprint import Footprint
from kdbench.data.inspection import Inspection, inspect_entry
from kdbench.data.load import (
    dataset_checksum,
    dataset_remarks,
    describe_dataset,
    describe_heads,
    load_dataset,
    load_entry,
    measure_dataset,
)
from kdbench.data.registry import Source, dataset_sources

if TYPE_CHECKING:
    from kdbench.data.batches import Batches

__all__ = [
    "Augment",
    "Batches",
    "Dataset",
    "Description",
    "Footprint",
    "Inspection",
    "Source",
    "Split",
    "Streamed",
    "check_classes",
    "dataset_checksum",
    "dataset_remarks",
    "dataset_sources",
    "describe_dataset",
    "describe_heads",
    "inspect_entry",
    "load_dataset",
    "load_entry",
    "measure_dataset",
]


def __getattr__(name: str) -> Any:
    """Import torch only for those who want batches: listing and describing datasets needs none."""
    if name == "Batches":
        from kdbench.data.batches import Batches

        return Batches
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
