"""Predictions: what a model says of every split, head by head, and the files that hold it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import safetensors.torch
import torch
from torch import Tensor

from kdbench.heads import PRIMARY, name_in, slices
from kdbench.store import OUTCOMES, PREDICTIONS, Fingerprints, Record, RunDirectory, write_recorded
from kdbench.targets import Target

Weights = Mapping[str, Tensor]


@dataclass
class Predictions:
    """The logits (N, K) of one model on the splits, at its last epoch and, for two splits, at its best.

    ``pooled`` (R, D) are features of the test split at the last epoch, see `predict_with_features`. A
    further head shares the features of the dataset's own, and holds none.
    """

    test: Tensor
    train: Tensor | None = None
    validation: Tensor | None = None
    test_best: Tensor | None = None
    validation_best: Tensor | None = None
    pooled: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """Return those that exist, by the names that they have in the file."""
        return {FILED[name]: value for name, value in vars(self).items() if value is not None}

    def by_head(self, outputs: Mapping[str, int]) -> ByHead:
        """Divide the logits of several heads, given how many classes each has."""
        logits = {name: value for name, value in vars(self).items() if value is not None and name != "pooled"}
        divided = {
            head: Predictions(**{name: value[:, part] for name, value in logits.items()})
            for head, part in slices(outputs)
        }
        divided[PRIMARY].pooled = self.pooled
        return divided


# Predictions by the name of the head; labels by the name of the head, then of the split.
ByHead = Mapping[str, Predictions]
Labels = Mapping[str, Mapping[str, Tensor]]


FILED = {
    "test": "test_logits",
    "train": "train_logits",
    "validation": "validation_logits",
    "test_best": "test_best_logits",
    "validation_best": "validation_best_logits",
    "pooled": "test_pooled",
}


def write_files(
    folder: Path,
    *,
    last: Weights,
    best: Weights | None,
    predictions: ByHead,
    labels: Labels,
    target: Target,
    history: Iterable[Mapping[str, Any]],
) -> Fingerprints:
    """Write weights, logits, outcomes and history of one model; the record, which lists them, comes after."""
    files = write_recorded(folder / "weights.safetensors", _serialised(last))
    if best is not None:
        files |= write_recorded(folder / "weights_best.safetensors", _serialised(best))
    for head, of_head in predictions.items():
        content = of_head.tensors() | {
            f"{name}_labels": _compact(value) for name, value in labels[head].items()
        }
        files |= write_recorded(folder / name_in(head, PREDICTIONS), _serialised(content))
    files |= write_outcomes(folder, predictions, labels, target)
    rows = pd.DataFrame(list(history))
    if len(rows):
        files |= write_recorded(folder / "history.csv", rows.to_csv(index=False))
    return files


def write_outcomes(folder: Path, predictions: ByHead, labels: Labels, target: Target) -> Fingerprints:
    """Write what each test example is and what is predicted of it, as numbers, in the dataset's own head."""
    label, predicted = target.codes(predictions[PRIMARY].test, labels[PRIMARY]["test"])
    outcomes = pd.DataFrame({"label": label, "predicted": predicted})
    return write_recorded(folder / OUTCOMES, outcomes.to_parquet(index=False))


def _compact(labels: Tensor) -> Tensor:
    return labels.int() if labels.dtype == torch.int64 else labels


def _serialised(tensors: Weights) -> bytes:
    # a copy of each: the format knows neither tied weights nor memory formats
    copies = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in tensors.items()
    }
    return safetensors.torch.save(copies)


def read_predictions(run: RunDirectory, record: Record, heads: Iterable[str]) -> ByHead:
    """Read the logits and features that were written for a model, by head.

    Raises SharedFault where a file is not what was recorded, and so does `read_labels`.
    """
    return {
        head: Predictions(**{name: tensors[filed] for name, filed in FILED.items() if filed in tensors})
        for head, tensors in _filed(run, record, heads)
    }


def read_labels(run: RunDirectory, record: Record, heads: Iterable[str]) -> Labels:
    """Read the labels of the splits that were written beside a model's logits, by head."""
    return {
        head: {
            name.removesuffix("_labels"): value.long()
            for name, value in tensors.items()
            if name.endswith("_labels")
        }
        for head, tensors in _filed(run, record, heads)
    }


def _filed(run: RunDirectory, record: Record, heads: Iterable[str]) -> Iterator[tuple[str, Weights]]:
    for head in heads:
        yield head, safetensors.torch.load_file(run.recorded_file(record, name_in(head, PREDICTIONS)))
