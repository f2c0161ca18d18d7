"""Carrying out a plan: teachers, costs, then cohort by cohort, so that a killed run goes on where it was."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from kdbench import machine
from kdbench.data import Dataset
from kdbench.errors import UserError
from kdbench.heads import PRIMARY
from kdbench.memory import checked_budget, default_budget
from kdbench.metrics.robustness import COLUMNS as ROBUSTNESS
from kdbench.plan import Cell, Plan, TeacherPlan, make_plan
from kdbench.plan.code import refuse_edited
from kdbench.progress import Progress
from kdbench.runner.controls import control_columns, score_against_independent
from kdbench.runner.costs import Costs, measure_costs, protocol_of
from kdbench.runner.doubts import guessed_normalisation
from kdbench.runner.finiteness import refuse_broken
from kdbench.runner.processes import train_in_processes
from kdbench.runner.records import all_columns, now, relabel
from kdbench.runner.robustness import Robustness
from kdbench.runner.scores import Scores
from kdbench.runner.session import Device, Session, resolve_device
from kdbench.runner.teachers import default_store
from kdbench.runner.trainer import SCRATCH, Setting, Trainer
from kdbench.store import RUNS, RunDirectory, earlier_note, read_json, write_atomic, write_json, write_results
from kdbench.suite import Suite
from kdbench.suite.schema import ModelEntry
from kdbench.training.threads import computing_with


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its directory and the number of cells by status."""

    path: Path
    ok: int
    failed: int
    skipped: int


def run(
    suite: Suite,
    out: str | Path | None = None,
    *,
    data_root: Path | None = None,
    device: Device = "auto",
    teacher_store: Path | None = None,
    retry_failed: bool = False,
    jobs: int = 1,
    memory_budget: int | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Run a suite, or go on with it: cells that have a record are not done again.

    Args:
        suite: what to run.
        out: the run directory; ``runs/NAME`` by default.
        data_root: the folder that holds datasets.
        device: where to train.
        teacher_store: the folder whose ``teachers`` runs share; by default ``runs`` for a run in it, and
            the run directory itself for any other.
        retry_failed: run cells again that failed before.
        jobs: how many processes train cohorts at once; they share the threads.
        memory_budget: bytes that training may take, which ``jobs`` share, half of the free memory by
            default; cohorts that need more are split, images are streamed from disk. No result depends on it.
        progress: is told what happens.

    Raises:
        UserError: for a request that cannot be carried out; nothing is lost.
    """
    progress = progress or Progress()
    target = resolve_device(device)
    budget = default_budget(target.type) if memory_budget is None else checked_budget(memory_budget)
    plan = make_plan(suite, data_root)
    directory = _claim(Path(out) if out else RUNS / suite.name, plan)
    setting = Setting(
        path=directory.path,
        teacher_store=teacher_store or default_store(directory.path),
        data_root=data_root,
        device=target,
        memory_budget=budget,
    )
    try:
        with directory.lock(), _emptied(setting.scratch), computing_with(suite.threads):
            for remark in plan.remarks:
                progress.warn(remark)
            return _Run(Trainer(plan, setting, progress)).carry_out(retry_failed, jobs)
    except filelock.Timeout:
        raise UserError(f"another kdbench process is working on {directory.path}: wait for it.") from None


@contextmanager
def _emptied(folder: Path) -> Iterator[None]:
    """Remove a folder before and after: a run that was killed, or a process of it, leaves its files."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _claim(path: Path, plan: Plan) -> RunDirectory:
    """Make the run directory, or make sure that an existing folder is this suite's."""
    directory = RunDirectory(path)
    if (path / "run.json").is_file():
        name = directory.manifest()["suite"]
        if name != plan.suite.name:
            raise UserError(
                f"{path} holds a run of suite '{name}', not '{plan.suite.name}': choose another --out."
            )
    elif path.exists() and (
        not path.is_dir() or any(file.name not in (".lock", SCRATCH) for file in path.iterdir())
    ):
        raise UserError(f"{path} exists and is not a run directory: choose another --out.")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {path}: {error.strerror}. Choose another --out.") from None
    return directory


class _Run:
    """One suite being carried out in one run directory."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.plan = trainer.plan
        self.directory = trainer.setting.directory
        self.progress = trainer.progress

    def carry_out(self, retry_failed: bool, jobs: int) -> Outcome:
        if retry_failed:
            self._forget_failures()
        waiting = self.trainer.waiting()
        supporting = self._supporting()
        missing = [
            teacher
            for teacher in (*self.plan.teachers, *supporting)
            if self.directory.record("teachers", teacher.id) is None
        ]
        before = self._before()
        self.progress.plan(
            len(self.plan.cohorts), len(self.plan.cells), before["ok"], before["failed"], before["skipped"]
        )
        if waiting or missing:
            self._begin(self.trainer.session)
        else:
            self.trainer.compare_data()
            self._write_manifest(None)
        relabel(self.plan, self.directory)
        if note := earlier_note(self.directory.path):
            self.progress.note(note)
        for teacher in self.plan.teachers:
            if teacher in missing or any(cell.teacher == teacher.label for cell in waiting):
                self.trainer.teacher(teacher)
        for teacher in supporting:
            if teacher in missing:
                if not teacher.lesson:
                    self.progress.note(f"independent teacher {teacher.label}, seed {teacher.entry.seed}")
                self.trainer.teacher(teacher)
        for teacher in (*self.plan.teachers, *supporting):
            refuse_broken(teacher, self.directory, (PRIMARY, *self.plan.tasks))
        costs = measure_costs(self.plan, self.directory, self.progress)
        self._train(waiting, costs, jobs)
        self.progress.trained()
        self._refresh_costs(costs)
        score_against_independent(self.plan, self.directory, self.progress)
        refuse_edited(self.plan)
        robustness = Robustness(self.plan, self.directory, self.progress)
        robustness.refresh(self.trainer.session if robustness.due() else None)
        write_results(self.directory)
        return self._outcome()

    def _begin(self, session: Session) -> None:
        """Write what this run is, and tell what is guessed of the data for weights from elsewhere."""
        self._write_manifest(session)
        guess = guessed_normalisation(self.plan.suite.dataset, session.data)
        if guess and self.plan.loads_weights:
            self.progress.note(guess)

    def _before(self) -> Counter[str]:
        """Return how many cells of the plan have a record already, by its status."""
        records = (self.directory.record("cells", cell.id) for cell in self.plan.cells)
        return Counter(record["status"] for record in records if record)

    def _supporting(self) -> list[TeacherPlan]:
        """Return the independent teachers, and the assistants of finished cells; others come with theirs."""
        records = ((cell, self.directory.record("cells", cell.id)) for cell in self.plan.cells)
        done = [cell for cell, record in records if record and record["status"] == "ok"]
        assistants = {assistant.id: assistant for cell in done for assistant in cell.assistants}
        return [*self.plan.idle_teachers, *assistants.values()]

    def _train(self, waiting: list[Cell], costs: Costs, jobs: int) -> None:
        cohorts = [cohort for cohort in self.plan.cohorts if any(cell in waiting for cell in cohort.cells)]
        if jobs > 1 and len(cohorts) > 1:
            # This process only waits: the memory is all for those that train.
            self.trainer.release()
            train_in_processes(self.plan, self.trainer.setting, cohorts, jobs, self.progress)
            return
        for cohort in cohorts:
            self.trainer.train(cohort, costs)

    def _write_manifest(self, session: Session | None) -> None:
        """Write what this run is; where nothing is left to train, what it says of the data stays."""
        suite, path = self.plan.suite, self.directory.path
        used = list({cell.registered.name: cell.registered for cell in self.plan.cells}.values())
        before = read_json(path / "run.json") if (path / "run.json").is_file() else {}
        parts: list[TeacherPlan | Cell] = [
            *self.plan.teachers,
            *self.plan.supporting,
            *self.plan.cells,
        ]
        write_atomic(path / "suite.yaml", suite.to_yaml())
        dimensions = protocol_of(suite.measure).dimensions
        measured = all_columns(suite.measure.batch_sizes, used, dimensions, self.plan.tasks, self.plan.target)
        columns = [*measured, *control_columns(suite)]
        columns += ROBUSTNESS if suite.robustness else ()
        write_json(path / "columns.json", [column.as_json() for column in columns])
        write_json(
            path / "run.json",
            before
            | {
                "suite": suite.name,
                "description": suite.description,
                "dataset": suite.dataset.shown,
                "seeds": list(suite.seeds),
                "teachers": [teacher.id for teacher in self.plan.teachers],
                "supporting": [teacher.id for teacher in self.plan.supporting],
                "cells": [cell.id for cell in self.plan.cells],
                "labels": {part.id: part.labels for part in parts},
                "started": before.get("started") or now(),
            }
            | (_data_and_machine(session.data) if session else {}),
        )

    def _forget_failures(self) -> None:
        for cell in self.plan.cells:
            record = self.directory.record("cells", cell.id)
            if record and record["status"] == "failed":
                shutil.rmtree(self.directory.folder("cells", cell.id))

    def _refresh_costs(self, costs: Costs) -> None:
        """Put costs into records that hold others: of other settings, of another suite, or stated before."""
        for teacher in self.plan.teachers:
            record = self.directory.record("teachers", teacher.id)
            if (
                record
                and record["status"] == "ok"
                and not costs.hold_for(record, teacher.label, teacher.entry)
            ):
                self._rewrite(record, costs, teacher.label, teacher.entry)
        for cell in self.plan.cells:
            record = self.directory.record("cells", cell.id)
            if (
                record
                and record["status"] == "ok"
                and not costs.hold_for(record, cell.teacher, cell.inference)
            ):
                self._rewrite(record, costs, cell.teacher, cell.inference)

    def _rewrite(self, record: dict[str, Any], costs: Costs, teacher: str, model: ModelEntry) -> None:
        scores = Scores(record["metrics"], record["reasons"], record["tables"])
        costs.add_to(scores, teacher, model)
        self.directory.amend(
            record, {"metrics": scores.metrics, "reasons": scores.reasons, "cost_id": costs.id(teacher)}
        )

    def _outcome(self) -> Outcome:
        statuses = [record["status"] for record in self.directory.records() if record["role"] == "student"]
        return Outcome(
            self.directory.path, statuses.count("ok"), statuses.count("failed"), statuses.count("skipped")
        )


def _data_and_machine(data: Dataset) -> dict[str, Any]:
    return {
        "classes": list(data.classes),
        **({"tasks": {task: list(classes) for task, classes in data.tasks.items()}} if data.tasks else {}),
        "input_shape": list(data.input_shape),
        "normalisation": {"mean": list(data.mean), "std": list(data.std)},
        "sizes": {
            "train": len(data.train.labels),
            "validation": len(data.validation.labels),
            "test": len(data.test.labels),
        },
        "machine": machine.fingerprint(),
        "versions": machine.versions(),
        "kdbench": machine.versions()["kdbench"],
    }
