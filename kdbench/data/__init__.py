"""Datasets in memory: sources by name, splits, and batches that are augmented on the device."""

from kdbench.data.batches import Augment, Batches
from kdbench.data.dataset import Dataset, Description, Split
from kdbench.data.load import describe_dataset, load_dataset
from kdbench.data.registry import Source, dataset_sources

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
