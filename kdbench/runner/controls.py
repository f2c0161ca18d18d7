"""How far every model of a run agrees with the independent teacher, computed from the logits that were saved.

The independent teacher is another training of the teacher that none of its students has learned from. A
student agrees with it by being right, and by the mistakes that models of the kind share: agreement with the
own teacher is transfer only as far as it exceeds this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import safetensors
from torch import Tensor

from kdbench.column import Column
from kdbench.metrics import catalogue, score
from kdbench.metrics.fidelity import STANTON
from kdbench.plan import Plan, TeacherPlan
from kdbench.progress import Progress, Steps
from kdbench.store import PREDICTIONS, Kind, RunDirectory, kind_of
from kdbench.suite import Suite

# What is computed with the independent teacher in the teacher's place, and the columns that it fills.
MEASURES = {
    "agreement": "agreement_independent",
    "cohen_kappa": "cohen_kappa_independent",
    "error_consistency": "error_consistency_independent",
    "kl_teacher_student": "kl_independent",
}
EXCESS = Column(
    "agreement_excess",
    "Agreement with the teacher minus that with the independent teacher",
    "fidelity",
    "higher",
    range="[-1, 1]",
    source=STANTON,
    scale="percent",
)
INDEPENDENT_COLUMNS = [
    *(
        replace(
            catalogue()[measure],
            name=name,
            quantity=name,
            title=f"{catalogue()[measure].title}, independent teacher",
        )
        for measure, name in MEASURES.items()
    ),
    EXCESS,
]

NAMES = {column.name for column in INDEPENDENT_COLUMNS}

Scored = tuple[dict[str, float | None], dict[str, str]]


def control_columns(suite: Suite) -> list[Column]:
    """Return the columns that a suite's controls add to those of every run."""
    return INDEPENDENT_COLUMNS if suite.controls.independent_teacher else []


class Independent:
    """An independent teacher of a run: its logits, and what models score against them."""

    def __init__(self, run: RunDirectory, id: str) -> None:
        """Take the run that holds it; nothing is read yet."""
        self._run = run
        self._id = id

    def scores(self, record: Mapping[str, Any]) -> Scored:
        """Score the saved logits of a record against it; the agreement with the own teacher is the record's.

        Raises UserError where saved logits are not what was recorded.
        """
        mine = _saved(self._run, record, "test_logits", "test_labels")
        if mine is None or self._logits is None:
            return _absent("the logits were not kept")
        logits, labels = mine
        tensors = {"logits": logits, "teacher_logits": self._logits, "labels": labels}
        values, reasons = score(tensors, only=MEASURES)
        named = {MEASURES[name]: value for name, value in values.items()}
        why = {MEASURES[name]: text for name, text in reasons.items()}
        own, with_other = record["metrics"]["agreement"], values["agreement"]
        if own is None or with_other is None:
            return named | {EXCESS.name: None}, why | {
                EXCESS.name: record["reasons"].get("agreement") or reasons["agreement"]
            }
        return named | {EXCESS.name: own - with_other}, why

    @cached_property
    def _logits(self) -> Tensor | None:
        record = self._run.record("teachers", self._id)
        saved = _saved(self._run, record, "test_logits") if record else None
        return saved[0] if saved else None


def score_against_independent(plan: Plan, directory: RunDirectory, progress: Progress) -> None:
    """Bring the records of a run up to date with the independent teachers that its suite asks for now.

    Saved logits are all that is needed, so that records which were finished without the control get it too.
    """
    asked = plan.suite.controls.independent_teacher is not None
    others = {id: Independent(directory, other.id) for id, other in plan.independent.items()}
    due = list(_outdated(plan, directory, asked))
    with Steps(progress, "comparing with independent teachers", len(due), "record") as steps:
        for record, teacher in due:
            scored: Scored = ({}, {})
            if teacher.id in others:
                scored = others[teacher.id].scores(record)
            elif asked:
                scored = _absent(
                    f"teacher '{teacher.label}' comes from a checkpoint: controls.independent_teacher needs "
                    "one too"
                )
            other = plan.independent.get(teacher.id)
            key = {"independent_teacher": other.id if other else None}
            directory.amend(record, replaced(record, scored) | key)
            steps.step()


def _outdated(
    plan: Plan, directory: RunDirectory, asked: bool
) -> Iterator[tuple[dict[str, Any], TeacherPlan]]:
    """Yield the finished records that do not hold what the suite asks for, each with its teacher."""
    for teacher in plan.teachers:
        other = plan.independent.get(teacher.id)
        members: list[tuple[Kind, str]] = [("teachers", teacher.id)]
        members += [("cells", cell.id) for cell in plan.cells if cell.teacher == teacher.label]
        for kind, id in members:
            record = directory.record(kind, id)
            if record is None or record["status"] != "ok":
                continue
            present = NAMES & record["metrics"].keys()
            known = record.get("independent_teacher") == (other.id if other else None)
            if present != (NAMES if asked else set()) or not known:
                yield record, teacher


def replaced(record: Mapping[str, Any], scored: Scored) -> dict[str, Any]:
    """Return metrics and reasons of a record with these scores in place of those that it had."""
    values, reasons = scored
    return {
        "metrics": _without_ours(record["metrics"]) | values,
        "reasons": _without_ours(record["reasons"]) | reasons,
    }


def _without_ours(known: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in known.items() if name not in NAMES}


def _absent(reason: str) -> Scored:
    return dict.fromkeys(NAMES), dict.fromkeys(NAMES, reason)


def _saved(run: RunDirectory, record: Mapping[str, Any], *names: str) -> tuple[Tensor, ...] | None:
    """Return tensors that lie beside a record, or None where they were not kept."""
    if not (run.folder(kind_of(record), record["id"]) / PREDICTIONS).is_file():
        return None
    with safetensors.safe_open(run.recorded_file(record, PREDICTIONS), framework="pt") as file:
        return tuple(file.get_tensor(name) for name in names)
