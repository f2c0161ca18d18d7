"""Robust evaluation: every model of a run is shown corrupted test images, in evaluation mode and float32.

It works from the stored weights of finished records, after training. So a run that was killed goes on with
what is missing, and a finished run can be given robustness later without being trained again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from kdbench.data.corruptions import selected
from kdbench.metrics.robustness import COLUMNS, Point, corruption_means, shift_scores
from kdbench.plan import Node, Plan
from kdbench.progress import Progress
from kdbench.runner.amendments.amendment import Due
from kdbench.runner.networks import network_of
from kdbench.runner.scores import Scores
from kdbench.runner.session import Session
from kdbench.runner.shifts import CLEAN, SEED, Images, Shift
from kdbench.store import Record, RunDirectory, content_id
from kdbench.training.evaluation import predict

# Part of the key under which results are stored. Raise it when a corruption changes.
DEFINITIONS = 1
TABLE = "corruptions"
OWN = {TABLE, *(column.name for column in COLUMNS)}

Points = Mapping[Shift, Point]


class CorruptionShift:
    """The amendment: accuracy, agreement and calibration under corruptions of the test images."""

    name = "shift"

    def __init__(
        self, plan: Plan, run: RunDirectory, session: Callable[[], Session], progress: Progress
    ) -> None:
        """Take the plan, whose suite asks for it or does not, and the way to the data."""
        self._plan = plan
        self._run = run
        self._open = session
        self._progress = progress
        self._entry = plan.suite.robustness
        self._key = None
        if self._entry is not None:
            names = [corruption.name for corruption in selected(self._entry.references)]
            settings = self._entry.model_dump(mode="json") | {"corruptions": names}
            if own := [plan.sources[name] for name in self._entry.references if name in plan.sources]:
                settings["sources"] = own
            self._key = content_id([DEFINITIONS, SEED, settings])

    def owns(self, name: str) -> bool:
        """Return whether a column or a table is of corruptions."""
        return name in OWN

    def key(self, node: Node) -> str | None:
        """Return the id of what the suite asks for, the same for all nodes."""
        return self._key

    def scored(self, due: Sequence[Due]) -> Iterator[tuple[Record, Scores]]:
        """Yield the figures teacher by teacher, then cohort by cohort; each sees the same images."""
        assert self._entry is not None
        session = self._open()
        images = Images(self._entry, session)
        records = {node.id: record for node, record in due}
        for teacher in self._plan.teachers:
            taught = {node.id for node, _ in due if node.origin is teacher}
            if not taught and teacher.id not in records:
                continue
            points, predicted = self._teacher(teacher, images, session)
            if teacher.id in records:
                yield records[teacher.id], _scores(points, images, no_agreement="it is the teacher")
            for cohort in self._plan.cohorts:
                nodes = [cell.node for cell in cohort.cells if cell.id in taught]
                if nodes:
                    yield from self._cohort(nodes, records, predicted, images, session)

    def _teacher(self, teacher: Node, images: Images, session: Session) -> tuple[Points, dict[Shift, Tensor]]:
        """Evaluate a teacher; return its figures and the classes that it predicts, which students need."""
        points: dict[Shift, Point] = {}
        predicted = {}
        for shift, _, logits in self._shown([teacher], images, session):
            points[shift] = shift_scores(logits, images.labels, None)
            if logits.isfinite().all():
                predicted[shift] = logits.argmax(dim=1)
        return points, predicted

    def _cohort(
        self,
        nodes: list[Node],
        records: Mapping[str, Record],
        predicted: Mapping[Shift, Tensor],
        images: Images,
        session: Session,
    ) -> Iterator[tuple[Record, Scores]]:
        """Evaluate students of one cohort, all on the same images."""
        points: dict[str, dict[Shift, Point]] = {node.id: {} for node in nodes}
        for shift, id, logits in self._shown(nodes, images, session):
            points[id][shift] = shift_scores(logits, images.labels, predicted.get(shift))
        why = None if predicted else "the teacher's weights are not stored with this run"
        for node in nodes:
            yield records[node.id], _scores(points[node.id], images, no_agreement=why)

    def _shown(
        self, nodes: Sequence[Node], images: Images, session: Session
    ) -> Iterator[tuple[Shift, str, Tensor]]:
        """Yield the logits of every model whose weights are stored, under every shift."""
        stored = {node.id: model for node in nodes if (model := self._stored(node, session))}
        if not stored:
            return
        label = f"{len(stored)} model{'' if len(stored) == 1 else 's'} on corrupted images"
        self._progress.begin(label, len(images.shifts), "shift")
        for done, shift in enumerate(images.shifts, start=1):
            logits: dict[str, list[Tensor]] = {id: [] for id in stored}
            for batches in images.shown(shift):
                for id, model in stored.items():
                    logits[id].append(predict(model, batches)[:, : session.data.num_classes])
            for id, parts in logits.items():
                yield shift, id, torch.cat(parts)
            self._progress.advance(done)
        self._progress.end()

    def _stored(self, node: Node, session: Session) -> nn.Module | None:
        record = self._run.record(node.id)
        name = record.weights() if record else None
        if record is None or not self._run.holds(record, name):
            return None
        return network_of(node, record, self._run, session).deployed()


def _scores(points: Points, images: Images, *, no_agreement: str | None) -> Scores:
    if not points:
        names = [column.name for column in COLUMNS]
        why = "its weights are not stored with this run"
        return Scores(dict.fromkeys(names), dict.fromkeys(names, why))
    corrupted = [points[shift] for shift in images.shifts if shift != CLEAN]
    values, reasons = corruption_means(points[CLEAN], corrupted, no_agreement=no_agreement)
    return Scores(values, reasons, {TABLE: images.table(points)})
