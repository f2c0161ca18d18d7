"""Scores: every metric of one model from its predictions, with the reasons for those that are null."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from kdbench.column import Column
from kdbench.heads import name_in
from kdbench.methods import Method, Parameters
from kdbench.metrics import Undefined, catalogue, score
from kdbench.metrics.disparity import class_deltas
from kdbench.metrics.quality import recall_per_class
from kdbench.metrics.registry import ordered
from kdbench.metrics.tensors import Tensors, inputs_of
from kdbench.runner.predictions import ByHead, Labels, Predictions
from kdbench.targets import USUAL, Target, find_target

BEST = "_best_val"
# Of the last epoch only: the train split, and features, are not predicted again with the best weights.
LAST_ONLY = ("train_logits", "features")
# What is told of every class: the function, and the tensors that it is called with.
TABLES: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "recall_per_class": (recall_per_class, ("predictions", "labels", "num_classes")),
    "class_delta": (class_deltas, ("predictions", "teacher_predictions", "labels", "num_classes")),
}

NO_FEATURES = "{} predictions hold no features: no pooled tap, or recorded by an earlier version"


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

    def add_head(self, head: str, scores: Scores, without: Collection[str] = ()) -> None:
        """Take in the scores of a head, under names that begin with its own."""
        metrics = {name: value for name, value in scores.metrics.items() if name not in without}
        reasons = {name: text for name, text in scores.reasons.items() if name in metrics}
        self.metrics |= {name_in(head, name): value for name, value in metrics.items()}
        self.reasons |= {name_in(head, name): text for name, text in reasons.items()}
        self.tables |= {name_in(head, name): table for name, table in scores.tables.items()}


def best_columns(target: Target, own: Sequence[str] = ()) -> list[Column]:
    """Return the columns of the epoch best on validation: of the metrics that follow the student's epoch."""
    logits, last_only = target.tensors["logits"], {target.tensors.get(role) for role in LAST_ONLY}
    return [
        dataclasses.replace(
            entry.column,
            name=entry.column.name + BEST,
            title=f"{entry.column.title}, epoch best on validation",
            epoch="best",
        )
        for entry in ordered(target, own=own)
        if logits in entry.inputs and not entry.inputs & last_only
    ]


def head_columns(head: str) -> list[Column]:
    """Return the columns of a further head: those of the metrics, under names that begin with its own."""
    target = find_target(USUAL)
    return [
        dataclasses.replace(
            column, name=name_in(head, column.name), title=f"{head}: {column.title}", head=head
        )
        for column in (*catalogue(target).values(), *best_columns(target))
        if column.name not in _of_features()
    ]


def _of_features() -> set[str]:
    """Return the metrics of features, which all heads share."""
    return {entry.column.name for entry in ordered() if "features" in entry.inputs}


def score_predictions(
    mine: ByHead,
    labels: Labels,
    teacher: ByHead | None,
    *,
    soft_targets: SoftTargets | None = None,
    without_best: str,
    target: Target,
    own: Sequence[str] = (),
) -> Scores:
    """Score a model's logits on the test split, at its last epoch and at the epoch best on validation.

    Every head has every metric, under names that begin with its own, but for those of features.

    Args:
        mine: the model's logits and features, by head.
        labels: the labels by head and split; a split without examples may be left out.
        teacher: the teacher's logits and features, or None for a teacher itself.
        soft_targets: what the teacher's logits were to the student; not given for a teacher itself.
        without_best: why there is no best epoch, where there is none.
        target: what the labels are; it decides which metrics there are.
        own: further metrics that a user names (see `kdbench.metrics.ordered`).
    """
    scores = Scores()
    for head, predictions in mine.items():
        of_head = _scores_of_head(
            predictions,
            labels[head],
            teacher[head] if teacher else None,
            soft_targets,
            without_best,
            target,
            own,
        )
        scores.add_head(head, of_head, without=_of_features() if head else ())
    return scores


def _scores_of_head(
    mine: Predictions,
    labels: Mapping[str, Tensor],
    teacher: Predictions | None,
    soft_targets: SoftTargets | None,
    without_best: str,
    target: Target,
    own: Sequence[str],
) -> Scores:
    known: dict[str, Tensor | None] = {
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
        known |= {"teacher_logits": teacher.test, "teacher_features": teacher.pooled}
        absent["teacher_features"] = NO_FEATURES.format("the teacher's")
    if soft_targets and soft_targets.temperature is not None:
        known["temperature"] = torch.tensor(soft_targets.temperature, dtype=torch.float64)
    elif soft_targets:
        absent["temperature"] = soft_targets.reason
    called = target.tensors
    tensors = {called[role]: value for role, value in known.items() if role in called and value is not None}
    absent = {called[role]: text for role, text in absent.items() if role in called}
    scores = Scores()
    scores.add(*score(tensors, absent, target=target, own=own))
    scores.tables = _class_tables(tensors, target)
    names = [column.quantity for column in best_columns(target, own)]
    if mine.test_best is None:
        scores.add({name + BEST: None for name in names}, {name + BEST: without_best for name in names})
    else:
        at_best = {"logits": mine.test_best, "validation_logits": mine.validation_best}
        tensors |= {
            called[role]: value for role, value in at_best.items() if role in called and value is not None
        }
        values, reasons = score(tensors, absent, only=names, target=target, own=own)
        scores.add(
            {name + BEST: values[name] for name in names},
            {name + BEST: reasons[name] for name in names if name in reasons},
        )
    return scores


def _class_tables(tensors: Mapping[str, Tensor], target: Target) -> dict[str, Any]:
    """Return the tables that the target has, as far as what they need is known of this model."""
    available, tables = Tensors(tensors), {}
    for name, (function, needs) in TABLES.items():
        if inputs_of(needs) <= set(target.tensors.values()):
            with suppress(Undefined):
                tables[name] = function(*(available[need] for need in needs))
    return tables
