"""Records: the columns of a run, the labels of its records, and what training adds to one."""

from __future__ import annotations

import datetime
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kdbench.column import Column
from kdbench.efficiency import columns as cost_columns
from kdbench.efficiency.places import Dimensions
from kdbench.errors import UserError
from kdbench.methods import Method
from kdbench.metrics import catalogue
from kdbench.plan import Plan
from kdbench.runner.scores import best_columns, head_columns
from kdbench.store import IDENTITY, RunDirectory
from kdbench.targets import USUAL, find_target
from kdbench.training.trainee import Trainee

# Numbers by the name of their column, and why others are null.
Scored = tuple[dict[str, float | None], dict[str, str]]

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
TRAIN_MACS = Column(
    "train_macs",
    "Multiply-adds of training, its assistants' and links' too, not its teacher's own",
    "cost",
    "lower",
    "",
    "[0, ∞)",
    "epochs · examples · (3 · MACs of the student + MACs of its teacher), without peers of a method's own",
    scale="count",
)
COHORT_MEMORY = Column(
    "cohort_peak_bytes",
    "Peak memory of training the cohort",
    "cost",
    "lower",
    "bytes",
    "[0, ∞)",
    "growth of resident memory (Linux VmHWM); on CUDA torch.cuda.max_memory_allocated",
    scale="bytes",
)


def diagnostic_columns(used: Sequence[Method]) -> list[Column]:
    """Return the columns that only some methods fill."""
    return [column for entry in used for column in entry.distiller.columns]


def diagnosed(used: Sequence[Method], own: Mapping[str, float], method: str) -> Scored:
    """Return the diagnostic columns of the run's methods, given what a student's own method told.

    Those of other methods, and values that are not finite, are null with the reason.
    """
    values: dict[str, float | None] = {}
    reasons = {}
    for column in diagnostic_columns(used):
        value = own.get(column.name)
        finite = value is not None and math.isfinite(value)
        values[column.name] = value if finite else None
        if not finite:
            undefined = f"not defined for {method}"
            reasons[column.name] = "the value is not finite" if column.name in own else undefined
    return values, reasons


def all_columns(
    batch_sizes: Sequence[int],
    used: Sequence[Method],
    dimensions: Dimensions | None = None,
    heads: Iterable[str] = (),
    target: str = USUAL,
    own: Sequence[str] = (),
) -> list[Column]:
    """Return every metric column in the order in which tables show them.

    ``used`` are the run's methods, ``heads`` its further heads, ``target`` what its own labels are,
    ``own`` the further metrics that a user names.
    """
    known = find_target(target)
    return [
        *catalogue(known, own).values(),
        *diagnostic_columns(used),
        *cost_columns(batch_sizes, dimensions),
        *TRAINING_COLUMNS,
        TRAIN_MACS,
        COHORT_MEMORY,
        *best_columns(known, own),
        *(column for head in heads for column in head_columns(head)),
    ]


def refuse_repeated(columns: list[Column]) -> None:
    """Raise UserError where a metric or a method of a user's own has the name of another column."""
    names = [*IDENTITY, "best_epoch", "data_checksum", *(column.name for column in columns)]
    for name, count in Counter(names).items():
        if count > 1:
            raise UserError(f"two columns are called '{name}': rename the metric, or the method's column.")


def relabel(plan: Plan, run: RunDirectory) -> None:
    """Give all records of a plan the labels that its suite has now, which ids do not hold."""
    for id, labels in plan.labels.items():
        relabel_one(id, labels, run)


def relabel_one(id: str, labels: Mapping[str, Any], run: RunDirectory) -> None:
    """Give the record of a node, if there is one, the labels of the plan."""
    record = run.record(id)
    if record and any(getattr(record, name) != value for name, value in labels.items()):
        run.amend(record, **labels)


def training_time(seconds: float | None, share: float | None, device: torch.device, *, absent: str) -> Scored:
    """Return the training columns; they are null, with a reason, for a model that was not timed.

    ``share`` is None for a node that did not train itself.
    """
    reason = None
    if seconds is None:
        reason = absent
    elif device.type != "cpu":
        reason = "a GPU works through the steps of a cohort in its own time"
    names = [column.name for column in TRAINING_COLUMNS]
    if reason:
        return dict.fromkeys(names), dict.fromkeys(names, reason)
    own = {} if share is not None else {names[1]: absent}
    return dict(zip(names, (seconds, share), strict=True)), own


def parameter_counts(deployed: nn.Module, trainee: Trainee | None, *, absent: str) -> Scored:
    """Return the counts of a model's parameters; those that are shared count once.

    ``params_nonzero`` is of what is deployed, ``params_trainable`` of what the optimiser changed,
    ``params_adapter`` of that the part of the method that is not kept, and ``params_training`` of all there
    was beside the teacher. What is of training is null, with the reason, for a model that was not trained.
    """
    counts: dict[str, float | None] = {"params_nonzero": nonzero(deployed.parameters())}
    if trainee is None:
        unknown = ("params_trainable", "params_training")
        return counts | {"params_adapter": 0} | dict.fromkeys(unknown), dict.fromkeys(unknown, absent)
    own = {id(weight): weight for weight in trainee.model.parameters()}
    of_method = {id(weight): weight for weight in trainee.adapters.parameters()}
    adapters = (weight for key, weight in of_method.items() if weight.requires_grad and key not in own)
    counts |= {
        "params_trainable": sum(weight.numel() for weight in trainee.trained),
        "params_adapter": sum(weight.numel() for weight in adapters),
        "params_training": sum(weight.numel() for weight in (own | of_method).values()),
    }
    return counts, {}


def nonzero(weights: Iterable[Tensor]) -> int:
    """Return how many elements of the weights are not exactly zero."""
    return sum(int(torch.count_nonzero(weight)) for weight in weights)


def now() -> str:
    """Return the time in UTC, to the second, as ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
