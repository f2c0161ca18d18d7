"""Records: what is written of one teacher or cell, and the files beside it."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import safetensors.torch
import torch
from torch import Tensor

from kdbench.column import Column
from kdbench.efficiency import columns as cost_columns
from kdbench.methods import Method
from kdbench.metrics import catalogue, score
from kdbench.metrics.quality import recall_per_class
from kdbench.store import write_atomic
from kdbench.training.trainee import Trainee

BEST = "_best_val"
# Evaluated at the last epoch only: the train split is not predicted again with the best weights.
LAST_ONLY = ("generalization_gap",)

Weights = Mapping[str, Tensor]
TRAINING_COLUMNS = [
    Column(
        "train_seconds",
        "Training time of the student's steps and its assistants'",
        "cost",
        "lower",
        "s",
        "(0, ∞)",
        "wall clock of one run, without what the cohort shares",
    ),
    Column(
        "train_time_share",
        "Share of the cohort's training time",
        "cost",
        "lower",
        "",
        "[0, 1]",
        "the student's steps / all steps and teacher passes of its cohort",
    ),
]


@dataclass
class Predictions:
    """The logits (N, K) of one model on the splits, at its last epoch and, for two splits, at its best."""

    test: Tensor
    train: Tensor | None = None
    validation: Tensor | None = None
    test_best: Tensor | None = None
    validation_best: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """Return those that exist, by the names that they have in the file."""
        return {f"{name}_logits": value for name, value in vars(self).items() if value is not None}


@dataclass
class Scores:
    """The numbers of one model, why others are null, and the per-class table."""

    metrics: dict[str, float | None] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    tables: dict[str, Any] = field(default_factory=dict)

    def add(self, values: Mapping[str, float | None], reasons: Mapping[str, str]) -> None:
        """Take in further numbers and the reasons for those that are null."""
        self.metrics |= values
        self.reasons |= reasons


def diagnostic_columns(used: Sequence[Method]) -> list[Column]:
    """Return the columns that only some methods fill."""
    return [column for entry in used for column in entry.distiller.columns]


def all_columns(batch_sizes: Sequence[int], used: Sequence[Method]) -> list[Column]:
    """Return every metric column in the order in which tables show them; ``used`` are the run's methods."""
    measured = list(catalogue().values())
    best = [
        Column(
            column.name + BEST,
            f"{column.title}, epoch best on validation",
            column.family,
            column.direction,
            column.unit,
            column.range,
            column.source,
        )
        for column in measured
        if column.name not in LAST_ONLY
    ]
    return [
        *measured,
        *diagnostic_columns(used),
        *cost_columns(batch_sizes),
        *TRAINING_COLUMNS,
        *best,
    ]


def score_predictions(
    mine: Predictions,
    labels: Tensor,
    train_labels: Tensor,
    teacher: Predictions | None,
    *,
    without_best: str,
) -> Scores:
    """Score a model's logits on the test split, at its last epoch and at the epoch best on validation.

    Args:
        mine: the model's logits.
        labels: test labels (N,).
        train_labels: train labels (M,).
        teacher: the teacher's logits, or None for a teacher itself.
        without_best: why there is no best epoch, where there is none.
    """
    tensors = {"logits": mine.test, "labels": labels}
    if mine.train is not None:
        tensors |= {"train_logits": mine.train, "train_labels": train_labels}
    if teacher is not None:
        tensors["teacher_logits"] = teacher.test
    scores = Scores()
    scores.add(*_explained(score(tensors), teacher))
    classes = mine.test.shape[1]
    scores.tables["recall_per_class"] = recall_per_class(mine.test.argmax(1), labels, classes)
    if mine.test_best is None:
        names = [name for name in catalogue() if name not in LAST_ONLY]
        scores.add({name + BEST: None for name in names}, {name + BEST: without_best for name in names})
    else:
        values, reasons = _explained(score(tensors | {"logits": mine.test_best}), teacher)
        scores.add(
            {name + BEST: value for name, value in values.items() if name not in LAST_ONLY},
            {name + BEST: reason for name, reason in reasons.items() if name not in LAST_ONLY},
        )
    return scores


def _explained(
    scored: tuple[dict[str, float | None], dict[str, str]], teacher: Predictions | None
) -> tuple[dict[str, float | None], dict[str, str]]:
    values, reasons = scored
    if teacher is None:
        fidelity = [name for name, column in catalogue().items() if column.family == "fidelity"]
        reasons = reasons | dict.fromkeys(fidelity, "it is the teacher")
    return values, reasons


def training_time(
    seconds: float | None, share: float, device: torch.device, *, absent: str
) -> tuple[dict[str, float | None], dict[str, str]]:
    """Return the training columns; they are null, with a reason, for a model that was not timed."""
    reason = None
    if seconds is None:
        reason = absent
    elif device.type != "cpu":
        reason = "a GPU works through the steps of a cohort in its own time"
    names = [column.name for column in TRAINING_COLUMNS]
    if reason:
        return dict.fromkeys(names), dict.fromkeys(names, reason)
    return dict(zip(names, (seconds, share), strict=True)), {}


def write_files(
    folder: Path,
    *,
    stem: str,
    last: Weights,
    best: Weights | None,
    predictions: Predictions,
    labels: Mapping[str, Tensor],
    history: Iterable[Mapping[str, Any]],
) -> None:
    """Write weights, logits and history of one model; the record that makes them count comes after."""
    write_atomic(folder / f"{stem}.safetensors", _serialised(last))
    if best is not None:
        write_atomic(folder / f"{stem}_best.safetensors", _serialised(best))
    content = predictions.tensors() | {f"{name}_labels": value.int() for name, value in labels.items()}
    write_atomic(folder / "predictions.safetensors", _serialised(content))
    rows = pd.DataFrame(list(history))
    if len(rows):
        write_atomic(folder / "history.csv", rows.to_csv(index=False))


def _serialised(tensors: Weights) -> bytes:
    # a copy of each: the format knows neither tied weights nor memory formats
    copies = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in tensors.items()
    }
    return safetensors.torch.save(copies)


def read_predictions(folder: Path) -> Predictions:
    """Read the logits that were written for a model."""
    tensors = safetensors.torch.load_file(folder / "predictions.safetensors")
    return Predictions(
        **{name.removesuffix("_logits"): value for name, value in tensors.items() if name.endswith("_logits")}
    )


def parameter_counts(trainee: Trainee) -> dict[str, float | None]:
    """Return the counts of a trained model's parameters; those that are shared count once.

    ``params_nonzero`` is of what is kept at inference, ``params_trainable`` of what the optimiser changed,
    ``params_adapter`` of that the part of the method that is not kept, and ``params_training`` of all there
    was beside the teacher.
    """
    kept = {id(weight): weight for weight in trainee.inference.parameters()}
    own = {id(weight): weight for weight in trainee.model.parameters()}
    of_method = {id(weight): weight for weight in trainee.adapters.parameters()}
    adapters = (weight for key, weight in of_method.items() if weight.requires_grad and key not in kept)
    return {
        "params_nonzero": nonzero(kept.values()),
        "params_trainable": sum(weight.numel() for weight in trainee.trained),
        "params_adapter": sum(weight.numel() for weight in adapters),
        "params_training": sum(weight.numel() for weight in (kept | own | of_method).values()),
    }


def nonzero(weights: Iterable[Tensor]) -> int:
    """Return how many elements of the weights are not exactly zero."""
    return sum(int(torch.count_nonzero(weight)) for weight in weights)


def now() -> str:
    """Return the time in UTC, to the second, as ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
