"""Robust evaluation: every model of a run is shown corrupted test images, in evaluation mode and float32.

It works from the stored weights of finished records, after training. So a run that was killed goes on with
what is missing, and a finished run can be given robustness later without being trained again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kdbench.data.corruptions import selected
from kdbench.metrics.robustness import COLUMNS, Point, corruption_means, shift_scores
from kdbench.models import load_checkpoint
from kdbench.plan import Plan, TeacherPlan
from kdbench.progress import Progress
from kdbench.runner.scores import Scores
from kdbench.runner.session import Session
from kdbench.runner.shifts import CLEAN, SEED, Images, Shift
from kdbench.store import Kind, RunDirectory, content_id
from kdbench.suite.schema import ModelEntry
from kdbench.training.evaluation import predict

# Part of the id under which results are stored. Raise it when a corruption changes.
DEFINITIONS = 1
TABLE = "corruptions"
STEMS = {"teachers": "teacher", "cells": "student"}

Record = dict[str, Any]
Points = Mapping[Shift, Point]


class Robustness:
    """The robust evaluation of the records of a run."""

    def __init__(self, plan: Plan, directory: RunDirectory, progress: Progress) -> None:
        """Take the plan, whose suite asks for it or does not."""
        self._plan = plan
        self._directory = directory
        self._progress = progress
        self._entry = plan.suite.robustness
        self._id = None
        if self._entry is not None:
            names = [found.name for found in selected(self._entry.corruptions)]
            settings = self._entry.model_dump(mode="json") | {"corruptions": names}
            self._id = content_id([DEFINITIONS, SEED, settings])

    def due(self) -> bool:
        """Return whether finished records wait for their evaluation, which needs the data."""
        if self._entry is None:
            return False
        teachers = (self._outdated("teachers", teacher.id) for teacher in self._plan.teachers)
        return any(teachers) or any(self._outdated("cells", cell.id) for cell in self._plan.cells)

    def refresh(self, session: Session | None) -> None:
        """Bring every finished record to what the suite asks for; those that hold it stay as they are.

        The session may be None where nothing is `due`.
        """
        for teacher in self._plan.teachers:
            own = self._outdated("teachers", teacher.id)
            cohorts = [
                [
                    (cell.inference, found)
                    for cell in cohort.cells
                    if (found := self._outdated("cells", cell.id))
                ]
                for cohort in self._plan.cohorts
                if cohort.teacher is teacher
            ]
            if self._entry is None:
                self._forget(own, [record for cohort in cohorts for _, record in cohort])
            elif session is not None and (own or any(cohorts)):
                images = Images(self._entry, session)
                taught = self._teacher(teacher, own, images, session)
                for cohort in filter(None, cohorts):
                    self._cohort(cohort, taught, images, session)

    def _outdated(self, kind: Kind, id: str) -> Record | None:
        """Return a finished record that does not hold what the suite asks for."""
        record = self._directory.record(kind, id)
        done = record is None or record["status"] != "ok" or record.get("robustness_id") == self._id
        return None if done else record

    def _teacher(
        self, plan: TeacherPlan, record: Record | None, images: Images, session: Session
    ) -> dict[Shift, Tensor]:
        """Evaluate a teacher and return the classes that it predicts, which its students' records need."""
        points: dict[Shift, Point] = {}
        predicted = {}
        for shift, _, logits in self._shown([("teachers", plan.id, plan.entry)], images, session):
            points[shift] = shift_scores(logits, images.labels, None)
            if logits.isfinite().all():
                predicted[shift] = logits.argmax(dim=1)
        if record is not None:
            self._write(record, points, images, no_agreement="it is the teacher")
        return predicted

    def _cohort(
        self,
        cells: list[tuple[ModelEntry, Record]],
        taught: Mapping[Shift, Tensor],
        images: Images,
        session: Session,
    ) -> None:
        """Evaluate students of one cohort, all on the same images, and write their records."""
        points: dict[str, dict[Shift, Point]] = {record["id"]: {} for _, record in cells}
        models: list[tuple[Kind, str, ModelEntry]] = [
            ("cells", record["id"], entry) for entry, record in cells
        ]
        for shift, id, logits in self._shown(models, images, session):
            points[id][shift] = shift_scores(logits, images.labels, taught.get(shift))
        why = None if taught else "the teacher's weights are not stored with this run"
        for _, record in cells:
            self._write(record, points[record["id"]], images, no_agreement=why)

    def _shown(
        self, models: list[tuple[Kind, str, ModelEntry]], images: Images, session: Session
    ) -> Iterator[tuple[Shift, str, Tensor]]:
        """Yield the logits of every model whose weights are stored, under every shift."""
        loaded = {
            id: model for kind, id, entry in models if (model := self._stored(kind, id, entry, session))
        }
        if not loaded:
            return
        label = f"{len(loaded)} model{'' if len(loaded) == 1 else 's'} on corrupted images"
        self._progress.begin(label, len(images.shifts), "shift")
        for done, shift in enumerate(images.shifts, start=1):
            logits: dict[str, list[Tensor]] = {id: [] for id in loaded}
            for batches in images.shown(shift):
                for id, model in loaded.items():
                    logits[id].append(predict(model, batches)[:, : session.data.num_classes])
            for id, parts in logits.items():
                yield shift, id, torch.cat(parts)
            self._progress.advance(done)
        self._progress.end()

    def _stored(self, kind: Kind, id: str, entry: ModelEntry, session: Session) -> nn.Module | None:
        weights = self._directory.folder(kind, id) / f"{STEMS[kind]}.safetensors"
        record = self._directory.record(kind, id)
        if record is None or not weights.is_file():
            return None
        model = session.build(entry.model_copy(update={"checkpoint": None}))
        load_checkpoint(model, self._directory.recorded_file(record, weights.name))
        return model

    def _write(self, record: Record, points: Points, images: Images, *, no_agreement: str | None) -> None:
        if points:
            corrupted = [points[shift] for shift in images.shifts if shift != CLEAN]
            values, reasons = corruption_means(points[CLEAN], corrupted, no_agreement=no_agreement)
            self._put(record, Scores(values, reasons, {TABLE: images.table(points)}))
        else:
            names = [column.name for column in COLUMNS]
            why = dict.fromkeys(names, "its weights are not stored with this run")
            self._put(record, Scores(dict.fromkeys(names), why))

    def _forget(self, teacher: Record | None, cells: list[Record]) -> None:
        """Take out what an earlier version of the suite asked for."""
        if teacher is not None:
            self._put(teacher, Scores())
        for record in cells:
            self._put(record, Scores())

    def _put(self, record: Record, scores: Scores) -> None:
        """Write a record with these scores in place of those that it had."""
        own = {TABLE, *(column.name for column in COLUMNS)}
        parts = {
            part: {name: value for name, value in record[part].items() if name not in own} | new
            for part, new in vars(scores).items()
        }
        self._directory.amend(record, parts | {"robustness_id": self._id})
