"""Students: a cohort is trained, and every student of it evaluated and recorded."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence

from kdbench.errors import SharedFault, UserError
from kdbench.memory import as_text
from kdbench.models import find_taps
from kdbench.plan import Cell, Cohort, TeacherPlan
from kdbench.progress import Progress, Steps
from kdbench.runner.assembly import Room, trainee_of
from kdbench.runner.cohort_memory import CohortMemory
from kdbench.runner.costs import Costs
from kdbench.runner.finiteness import broken_logits
from kdbench.runner.predictions import write_files
from kdbench.runner.records import (
    diagnosed,
    now,
    parameter_counts,
    training_time,
)
from kdbench.runner.scores import Scores, score_predictions, soft_targets_of
from kdbench.runner.session import Session
from kdbench.runner.teachers import Teacher
from kdbench.shared_state import kept_settings
from kdbench.store import TRACEBACK, Fingerprints, RunDirectory, write_recorded
from kdbench.training.checkpoint import saved_ids
from kdbench.training.cohort import train
from kdbench.training.footprint import held_bytes, step_bytes
from kdbench.training.seeds import derive, reseed
from kdbench.training.trainee import DIVERGED, Trainee, Tutor


class CohortRun:
    """One cohort being trained, evaluated and recorded."""

    def __init__(
        self,
        cohort: Cohort,
        teacher: Teacher,
        obtain_teacher: Callable[[TeacherPlan], Teacher],
        session: Session,
        costs: Costs,
        directory: RunDirectory,
        progress: Progress,
        memory_budget: int | None = None,
    ) -> None:
        """Take the cohort, its teacher, the way to get assistants, where its records go, and the memory."""
        self.cohort = cohort
        self.teacher = teacher
        self.tutors = {teacher.plan.id: teacher}
        self.obtain_teacher = obtain_teacher
        self.session = session
        self.costs = costs
        self.directory = directory
        self.progress = progress
        self.memory_budget = memory_budget
        self._steps: dict[str, int] = {}
        self._waiting = 0
        self.checkpoint = directory.path / "cohorts" / f"{cohort.id}.pt"
        self.methods = tuple({cell.registered.name: cell.registered for cell in cohort.cells}.values())

    def carry_out(self, pending: Sequence[Cell]) -> None:
        """Train the pending cells; those that a checkpoint holds go on from it, together."""
        for cell in pending:
            if cell.refusal:
                self._record(cell, now(), status="skipped", reason=cell.refusal)
        runnable = [cell for cell in pending if not cell.refusal]
        self._waiting = len(runnable)
        saved = saved_ids(self.checkpoint)
        begun = [cell for cell in runnable if cell.id in saved]
        fresh = [cell for cell in runnable if cell.id not in saved]
        if begun:
            self._train(begun, Room(None))
        # Also where none of its cells is pending any more: the next part must not go on from it.
        self.checkpoint.unlink(missing_ok=True)
        while fresh:
            fresh = self._train(fresh, Room(self.memory_budget))
            self.checkpoint.unlink(missing_ok=True)

    def _train(self, cells: Sequence[Cell], room: Room) -> list[Cell]:
        """Train as many cells together as there is room for, from the first; return the rest."""
        started = now()
        trainees: dict[Cell, Trainee] = {}
        shared: dict[str, Tutor] = {}
        rest: list[Cell] = []
        # Assistants are trained before: their memory is not the cohort's.
        tutors = self._tutors(cells, started)
        peak = CohortMemory(self.session.device)
        x, _, _ = next(self.session.train.ordered(self.cohort.recipe.batch_size))
        for place, (cell, tutor) in enumerate(tutors.items()):
            try:
                shared.setdefault(cell.tutor.id, tutor.tutor())
                trainee = trainee_of(cell, self.session, tutor.fitted(), shared[cell.tutor.id])
                if cell.student not in self._steps:
                    self._steps[cell.student] = step_bytes(trainee.model, x)
                admitted = room.admits(held_bytes(trainee), self._steps[cell.student])
            except SharedFault:
                raise
            except Exception as error:  # a method or a model of the user's own may raise anything
                self._fail(cell, started, _not_built(error), traceback.format_exc())
                continue
            if not admitted:
                trainee.reader.close()
                rest = list(tutors)[place:]
                break
            trainees[cell] = trainee
        del x  # not held while the cohort trains
        if not trainees:
            return rest
        if rest:
            self.progress.note(
                f"{len(trainees)} of {len(cells)} students first: more do not fit into the memory budget of "
                f"{as_text(room.budget or 0)}"
            )
        self.progress.part(len(trainees), self._waiting)
        self.progress.begin(f"{len(trainees)} students", self.cohort.recipe.epochs, "epoch")
        train(
            list(trainees.values()),
            self.session.train,
            self.session.validation,
            seed=derive("cohort", self.cohort.seed),
            checkpoint=self.checkpoint,
            on_epoch=lambda epoch, active: self.progress.advance(epoch, _lost(active)),
        )
        self.progress.end(f"{sum(trainee.train_seconds for trainee in trainees.values()):.0f} s of training")
        cohort_seconds = sum(trainee.train_seconds for trainee in trainees.values())
        cohort_seconds += sum(tutor.seconds for tutor in shared.values())
        memory = peak.scores()
        living = [trainee for trainee in trainees.values() if trainee.failure is None]
        # Each model is scored after its last pass.
        total = sum(self.session.passes(trainee.best is not None) + 1 for trainee in living)
        models = f"{len(living)} model{'' if len(living) == 1 else 's'}"
        with Steps(self.progress, f"evaluating {models}", total, "pass") as steps:
            for cell, trainee in trainees.items():
                try:
                    self._finish(cell, trainee, started, cohort_seconds, memory, steps)
                except UserError:
                    raise
                except Exception as error:  # a user's own method may also raise when it diagnoses
                    reason = f"could not be evaluated: {_one_line(error)}"
                    self._fail(cell, started, reason, traceback.format_exc(), trainee)
        return rest

    def _tutors(self, cells: Sequence[Cell], started: str) -> dict[Cell, Teacher]:
        """Return the tutor of each cell; a cell whose assistant cannot be trained fails."""
        tutors = {}
        for cell in cells:
            try:
                tutors[cell] = self._tutor(cell.tutor)
            except SharedFault:
                raise
            except Exception as error:  # an assistant's method may be a user's own
                self._fail(cell, started, _not_built(error), traceback.format_exc())
        return tutors

    def _tutor(self, plan: TeacherPlan) -> Teacher:
        if plan.id not in self.tutors:
            self.tutors[plan.id] = self.obtain_teacher(plan)
        return self.tutors[plan.id]

    def _finish(
        self,
        cell: Cell,
        trainee: Trainee,
        started: str,
        cohort_seconds: float,
        memory: Scores,
        steps: Steps,
    ) -> None:
        """Evaluate a trained student and write its record."""
        if trainee.failure is None:
            best = trainee.best.weights if trainee.best else None
            kept = trainee.inference
            # A method that keeps another network than the student has its own pooled feature.
            taps = cell.taps if kept is trainee.model else find_taps(kept, self.session.data.input_shape)
            predictions = self.session.predict_all(kept, taps, best, steps.step)
            broken = broken_logits(predictions, ("test",))
            if broken:
                trainee.failure = f"{DIVERGED} {broken} after epoch {len(trainee.history)}"
        if trainee.failure is not None:
            self._fail(cell, started, trainee.failure, trainee.traceback, trainee)
            return
        scores = score_predictions(
            predictions,
            self.session.labels,
            self.teacher.predictions,
            soft_targets=soft_targets_of(cell.registered, cell.hyper, assisted=cell.tutor.lesson is not None),
            without_best="there is no validation split",
            target=self.session.target,
        )
        scores.add(*self._diagnostics(cell, trainee))
        scores.add(*self._training_cost(cell, trainee, cohort_seconds))
        scores.add(memory.metrics, memory.reasons)
        self.costs.add_to(scores, cell.teacher, cell.inference)
        files = write_files(
            self.directory.folder("cells", cell.id),
            stem="student",
            last=trainee.inference.state_dict(),
            best=best,
            predictions=predictions,
            labels=self.session.labels,
            target=self.session.target,
            history=trainee.history,
        )
        self._record(cell, started, trainee, scores, files)
        steps.step()

    def _training_cost(
        self, cell: Cell, trainee: Trainee, cohort_seconds: float
    ) -> tuple[dict[str, float | None], dict[str, str]]:
        """Return what the student's training cost, and the counts of the parameters that took part in it."""
        values, reasons = training_time(
            trainee.train_seconds + sum(self._chain_seconds(cell.tutor)),
            trainee.train_seconds / cohort_seconds,
            self.session.device,
            absent="it was not trained",
        )
        values |= parameter_counts(trainee)
        return values, reasons

    def _chain_seconds(self, plan: TeacherPlan) -> Iterator[float]:
        """Yield how long the assistants took that were trained for a cell."""
        while plan.lesson:
            yield self._tutor(plan).train_seconds
            plan = plan.lesson.tutor

    def _diagnostics(self, cell: Cell, trainee: Trainee) -> tuple[dict[str, float | None], dict[str, str]]:
        """Return the numbers that only some methods have; for the others they are null with the reason."""
        reseed("diagnose", cell.id)
        with kept_settings():
            own = trainee.distiller.diagnose(trainee.model, trainee.teacher, self.session.held_out_loss)
        return diagnosed(self.methods, own, cell.registered.name)

    def _fail(
        self,
        cell: Cell,
        started: str,
        reason: str,
        where: str | None,
        trainee: Trainee | None = None,
    ) -> None:
        """Record a cell that failed, with the traceback of the exception if one was the reason."""
        folder = self.directory.folder("cells", cell.id)
        files = write_recorded(folder / TRACEBACK, where) if where else {}
        self._record(cell, started, trainee, files=files, status="failed", reason=reason)

    def _record(
        self,
        cell: Cell,
        started: str,
        trainee: Trainee | None = None,
        scores: Scores | None = None,
        files: Fingerprints | None = None,
        *,
        status: str = "ok",
        reason: str | None = None,
    ) -> None:
        scores = scores or Scores()
        self.directory.write_record(
            "cells",
            {
                "id": cell.id,
                "role": "student",
                "status": status,
                "reason": reason,
                "dataset": self.session.dataset_label,
                **cell.labels,
                "method_name": cell.registered.name,
                "cohort": cell.cohort,
                "config": cell.config,
                "cost_id": self.costs.id(cell.teacher),
                "metrics": scores.metrics,
                "reasons": scores.reasons,
                "tables": scores.tables,
                "best_epoch": trainee.best.epoch if trainee and trainee.best else None,
                "epochs": cell.recipe.epochs,
                "durations": {"train_seconds": trainee.train_seconds if trainee else None},
                "provenance": self.session.provenance(cell.recipe, started, cell.entry),
            },
            files or {},
        )


def _not_built(error: Exception) -> str:
    return f"could not be built: {_one_line(error)}"


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _lost(trainees: Sequence[Trainee]) -> str:
    failed = sum(trainee.failure is not None for trainee in trainees)
    return f"{failed} failed" if failed else ""
