"""Records: what is written of one teacher or cell, and the files beside it."""

from __future__ import annotations

import dataclasses
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
from kdbench.efficiency.places import Dimensions
from kdbench.methods import Method, Parameters
from kdbench.metrics import catalogue, score
from kdbench.metrics.disparity import class_deltas
from kdbench.metrics.quality import recall_per_class
from kdbench.metrics.registry import ordered
from kdbench.store import OUTCOMES, PREDICTIONS, write_atomic
from kdbench.training.trainee import Trainee

BEST = "_best_val"
# Of the last epoch only: the train split, and features, are not predicted again with the best weights.
LAST_ONLY = {"train_logits", "features"}

NO_FEATURES = "{} predictions hold no features: no pooled tap, or recorded by an earlier version"

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
    """The logits (N, K) of one model on the splits, at its last epoch and, for two splits, at its best.

    ``pooled`` (R, D) are features of the test split at the last epoch, see `predict_with_features`.
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


FILED = {
    "test": "test_logits",
    "train": "train_logits",
    "validation": "validation_logits",
    "test_best": "test_best_logits",
    "validation_best": "validation_best_logits",
    "pooled": "test_pooled",
}


@dataclass(frozen=True)
class SoftTargets:
    """The temperature at which a student's targets soften the teacher's logits, or why there is none."""

    temperature: float | None
    reason: str = ""


def soft_targets_of(method: Method, hyper: Parameters, *, assisted: bool) -> SoftTargets:
    """Return the soft targets of a method; ``assisted`` where the student's own teacher is an assistant."""
    temperature = method.distiller.soft_temperature(hyper)
    if temperature is None:
        return SoftTargets(None, f"{method.name} has no targets that soften the teacher's logits")
    if assisted:
        return SoftTargets(None, "its soft targets are an assistant's")
    return SoftTargets(temperature)


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


def all_columns(
    batch_sizes: Sequence[int], used: Sequence[Method], dimensions: Dimensions | None = None
) -> list[Column]:
    """Return every metric column in the order in which tables show them; ``used`` are the run's methods."""
    return [
        *catalogue().values(),
        *diagnostic_columns(used),
        *cost_columns(batch_sizes, dimensions),
        *TRAINING_COLUMNS,
        *best_columns(),
    ]


def best_columns() -> list[Column]:
    """Return the columns of the epoch best on validation: of the metrics that follow the student's epoch."""
    return [
        dataclasses.replace(
            entry.column,
            name=entry.column.name + BEST,
            title=f"{entry.column.title}, epoch best on validation",
        )
        for entry in ordered()
        if "logits" in entry.inputs and not entry.inputs & LAST_ONLY
    ]


def score_predictions(
    mine: Predictions,
    labels: Mapping[str, Tensor],
    teacher: Predictions | None,
    *,
    soft_targets: SoftTargets | None = None,
    without_best: str,
) -> Scores:
    """Score a model's logits on the test split, at its last epoch and at the epoch best on validation.

    Args:
        mine: the model's logits and features.
        labels: the labels of the splits by name; a split without examples may be left out.
        teacher: the teacher's logits and features, or None for a teacher itself.
        soft_targets: what the teacher's logits were to the student; not given for a teacher itself.
        without_best: why there is no best epoch, where there is none.
    """
    given: dict[str, Tensor | None] = {
        "logits": mine.test,
        "labels": labels["test"],
        "train_logits": mine.train,
        "train_labels": labels.get("train"),
        "validation_logits": mine.validation,
        "validation_labels": labels.get("validation"),
        "features": mine.pooled,
    }
    absent = {"validation_logits": "there is no validation split", "features": NO_FEATURES.format("its")}
    if teacher is None:
        absent |= dict.fromkeys(("teacher_logits", "teacher_features", "temperature"), "it is the teacher")
        absent["features"] = "it is the teacher"
    else:
        given |= {"teacher_logits": teacher.test, "teacher_features": teacher.pooled}
        absent["teacher_features"] = NO_FEATURES.format("the teacher's")
    if soft_targets and soft_targets.temperature is not None:
        given["temperature"] = torch.tensor(soft_targets.temperature, dtype=torch.float64)
    elif soft_targets:
        absent["temperature"] = soft_targets.reason
    tensors = {name: value for name, value in given.items() if value is not None}
    scores = Scores()
    scores.add(*score(tensors, absent))
    scores.tables = _class_tables(mine.test, labels["test"], teacher)
    names = [column.name.removesuffix(BEST) for column in best_columns()]
    if mine.test_best is None:
        scores.add({name + BEST: None for name in names}, {name + BEST: without_best for name in names})
    else:
        at_best = {"logits": mine.test_best}
        if mine.validation_best is not None:
            at_best["validation_logits"] = mine.validation_best
        values, reasons = score(tensors | at_best, absent)
        scores.add(
            {name + BEST: values[name] for name in names},
            {name + BEST: reasons[name] for name in names if name in reasons},
        )
    return scores


def _class_tables(logits: Tensor, labels: Tensor, teacher: Predictions | None) -> dict[str, Any]:
    predicted, classes = logits.argmax(1), logits.shape[1]
    tables: dict[str, Any] = {"recall_per_class": recall_per_class(predicted, labels, classes)}
    if teacher is not None:
        tables["class_delta"] = class_deltas(predicted, teacher.test.argmax(1), labels, classes)
    return tables


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
    """Write weights, logits, outcomes and history of one model; the record comes after them."""
    write_atomic(folder / f"{stem}.safetensors", _serialised(last))
    if best is not None:
        write_atomic(folder / f"{stem}_best.safetensors", _serialised(best))
    content = predictions.tensors() | {f"{name}_labels": value.int() for name, value in labels.items()}
    write_atomic(folder / PREDICTIONS, _serialised(content))
    told = {"label": labels["test"], "predicted": predictions.test.argmax(1)}
    outcomes = pd.DataFrame({name: value.cpu().numpy() for name, value in told.items()}).astype("uint16")
    write_atomic(folder / OUTCOMES, outcomes.to_parquet(index=False))
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
    """Read the logits and features that were written for a model."""
    tensors = safetensors.torch.load_file(folder / PREDICTIONS)
    return Predictions(**{name: tensors[filed] for name, filed in FILED.items() if filed in tensors})


def read_labels(folder: Path) -> dict[str, Tensor]:
    """Read the labels of the splits, by name, that were written beside a model's logits."""
    tensors = safetensors.torch.load_file(folder / PREDICTIONS)
    return {
        name.removesuffix("_labels"): value.long()
        for name, value in tensors.items()
        if name.endswith("_labels")
    }


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
