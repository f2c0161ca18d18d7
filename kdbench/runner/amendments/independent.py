"""How far every model of a run agrees with the independent teacher, computed from the logits that were saved.

The independent teacher is another training of the teacher that none of its students has learned from. A
student agrees with it by being right, and by the mistakes that models of the kind share: agreement with the
own teacher is transfer only as far as it exceeds this.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import safetensors
from torch import Tensor

from kdbench.column import Column
from kdbench.metrics import catalogue, score
from kdbench.metrics.fidelity import STANTON
from kdbench.plan import Node, Plan
from kdbench.progress import Progress, Steps
from kdbench.runner.amendments.amendment import Due
from kdbench.runner.scores import Scores
from kdbench.store import PREDICTIONS, Record, RunDirectory
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


def control_columns(suite: Suite) -> list[Column]:
    """Return the columns that a suite's controls add to those of every run."""
    return INDEPENDENT_COLUMNS if suite.controls.independent_teacher else []


class IndependentTeacher:
    """The amendment: what records score against the independent teacher of theirs.

    Saved logits are all that is needed, so that records which were finished without the control get it too.
    """

    name = "independent"

    def __init__(self, plan: Plan, run: RunDirectory, progress: Progress) -> None:
        """Take the plan, whose suite asks for it or does not."""
        self._asked = plan.suite.controls.independent_teacher is not None
        self._others = plan.independent
        self._saved = SavedLogits(run)
        self._progress = progress

    def owns(self, name: str) -> bool:
        """Return whether a column is of an independent teacher."""
        return name in NAMES

    def key(self, node: Node) -> str | None:
        """Return the id of the independent teacher; an empty one where there is none for this teacher."""
        if not self._asked:
            return None
        other = self._others.get(_teacher_of(node).id)
        return other.id if other else ""

    def scored(self, due: Sequence[Due]) -> Iterator[tuple[Record, Scores]]:
        """Yield what the records score."""
        with Steps(self._progress, "comparing with independent teachers", len(due), "record") as steps:
            for node, record in due:
                yield record, self._scores(node, record)
                steps.step()

    def _scores(self, node: Node, record: Record) -> Scores:
        teacher = _teacher_of(node)
        other = self._others.get(teacher.id)
        if other:
            return self._saved.scores(record, other.id)
        return _absent(
            f"teacher '{teacher.label}' comes from a checkpoint: controls.independent_teacher needs one too"
        )


def _teacher_of(node: Node) -> Node:
    return node.origin or node


class SavedLogits:
    """The logits of the independent teachers of a run, each read once, and what models score against them."""

    def __init__(self, run: RunDirectory) -> None:
        """Take the run that holds them; nothing is read yet."""
        self._run = run
        self._known: dict[str, Tensor | None] = {}

    def scores(self, record: Record, other: str) -> Scores:
        """Score the saved logits of a record against a teacher's; agreement with its own is as recorded.

        Raises UserError where saved logits are not what was recorded.
        """
        mine, theirs = _saved(self._run, record, "test_logits", "test_labels"), self._of(other)
        if mine is None or theirs is None:
            return _absent("the logits were not kept")
        tensors = {"logits": mine[0], "teacher_logits": theirs, "labels": mine[1]}
        values, reasons = score(tensors, only=MEASURES)
        named = {MEASURES[name]: value for name, value in values.items()}
        why = {MEASURES[name]: text for name, text in reasons.items()}
        own, with_other = record.metrics["agreement"], values["agreement"]
        if own is None or with_other is None:
            why[EXCESS.name] = record.reasons.get("agreement") or reasons["agreement"]
            return Scores(named | {EXCESS.name: None}, why)
        return Scores(named | {EXCESS.name: own - with_other}, why)

    def _of(self, id: str) -> Tensor | None:
        if id not in self._known:
            record = self._run.record(id)
            saved = _saved(self._run, record, "test_logits") if record else None
            self._known[id] = saved[0] if saved else None
        return self._known[id]


def _absent(reason: str) -> Scores:
    return Scores(dict.fromkeys(NAMES), dict.fromkeys(NAMES, reason))


def _saved(run: RunDirectory, record: Record, *names: str) -> tuple[Tensor, ...] | None:
    """Return tensors that lie beside a record, or None where they were not kept."""
    if not run.holds(record, PREDICTIONS):
        return None
    with safetensors.safe_open(run.recorded_file(record, PREDICTIONS), framework="pt") as file:
        return tuple(file.get_tensor(name) for name in names)
