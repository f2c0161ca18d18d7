"""Carrying out a plan: teachers, cohort by cohort, amendments; a killed run goes on where it was."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdbench import machine
from kdbench.column import Column
from kdbench.data import Dataset
from kdbench.memory import checked_budget, default_budget
from kdbench.metrics.robustness import COLUMNS as ROBUSTNESS
from kdbench.plan import Node, Plan, make_plan
from kdbench.plan.code import refuse_edited
from kdbench.progress import Progress
from kdbench.runner.amendments.amendment import bring_up_to_date
from kdbench.runner.amendments.costs import Costs
from kdbench.runner.amendments.independent import IndependentTeacher, control_columns
from kdbench.runner.amendments.measurement import protocol_of
from kdbench.runner.amendments.own_metrics import OwnMetrics
from kdbench.runner.amendments.shift import CorruptionShift
from kdbench.runner.claim import claim
from kdbench.runner.doubts import guessed_normalisation
from kdbench.runner.events import Follower
from kdbench.runner.finishing import methods_of
from kdbench.runner.finiteness import refuse_broken
from kdbench.runner.records import all_columns, now, refuse_repeated, relabel
from kdbench.runner.session import Device, Session, resolve_device
from kdbench.runner.shelf import default_store
from kdbench.runner.works import EXECUTORS, Executor, Site, works_of
from kdbench.runner.workshop import Setting, Workshop
from kdbench.store import (
    RUNS,
    earlier_note,
    missing_weights,
    write_results,
)
from kdbench.suite import Suite
from kdbench.targets import find_target
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
    executor: str | None = None,
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
        executor: what carries the work out, by name or as ``path/file.py:Name``; by default ``inline`` for
            one job, ``processes`` for more.
        memory_budget: bytes that training may take, which ``jobs`` share, half of the free memory by
            default; cohorts that need more are split, images are streamed from disk. No result depends on it.
        progress: is told what happens.

    Raises:
        UserError: for a request that cannot be carried out; nothing is lost.
    """
    progress = progress or Progress()
    target = resolve_device(device)
    budget = default_budget(target.type) if memory_budget is None else checked_budget(memory_budget)
    carrying = EXECUTORS.find(executor or ("processes" if jobs > 1 else "inline")).make(jobs)
    plan = make_plan(suite, data_root)
    refuse_repeated(_columns(plan))
    directory = claim(Path(out) if out else RUNS / suite.name, plan)
    setting = Setting(
        path=directory.path,
        teacher_store=teacher_store or default_store(directory.path),
        data_root=data_root,
        device=target,
        memory_budget=budget,
    )
    with directory.lock(), _emptied(setting.scratch), computing_with(suite.threads):
        for remark in plan.remarks:
            progress.warn(remark)
        return _Run(Workshop(plan, setting, progress)).carry_out(retry_failed, carrying)


def _columns(plan: Plan) -> list[Column]:
    """Return every column of a plan's records, in the order in which tables show them."""
    suite, dimensions = plan.suite, protocol_of(plan.suite.measure).dimensions
    columns = all_columns(
        suite.measure.batch_sizes, methods_of(plan), dimensions, plan.heads, plan.target, plan.own_metrics
    )
    return [*columns, *control_columns(suite), *(ROBUSTNESS if suite.robustness else ())]


@contextmanager
def _emptied(folder: Path) -> Iterator[None]:
    """Remove a folder before and after: a run that was killed, or a process of it, leaves its files."""
    if folder.is_symlink():
        folder.unlink()
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Run:
    """One suite being carried out in one run directory."""

    def __init__(self, workshop: Workshop) -> None:
        self.workshop = workshop
        self.plan = workshop.plan
        self.directory = workshop.run
        self.progress = workshop.progress

    def carry_out(self, retry_failed: bool, executor: Executor) -> Outcome:
        if retry_failed:
            self._forget_failures()
        waiting = self.workshop.waiting()
        needed = [*self.plan.teachers, *self._supporting()]
        missing = [node for node in needed if self.directory.record(node.id) is None]
        before = self._before()
        self.progress.plan(
            len(self.plan.cohorts), len(self.plan.cells), before["ok"], before["failed"], before["skipped"]
        )
        self._verify()
        if waiting or missing or not self.directory.is_begun:
            self._begin(self.workshop.session)
        else:
            self.workshop.compare_data()
            self._write_manifest(None)
        relabel(self.plan, self.directory)
        if note := earlier_note(self.directory.path):
            self.progress.note(note)
        for node in needed:
            if node in missing or any(cell.node.origin is node for cell in waiting):
                if node in self.plan.idle_teachers:
                    self.progress.note(f"independent teacher {node.label}, seed {node.seed}")
                self.workshop.obtain(node)
        for node in needed:
            refuse_broken(node, self.directory, self.plan.outputs)
        self._make(executor)
        self.progress.trained()
        self._amend()
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
        records = self.directory.existing(cell.id for cell in self.plan.cells)
        return Counter(record.status for record in records)

    def _verify(self) -> None:
        """Raise SharedFault where what lies beside a finished record is not what was recorded."""
        ids = [*self.plan.nodes, *(cell.id for cell in self.plan.cells)]
        missing = missing_weights(self.directory, dict.fromkeys(ids))
        if missing:
            self.progress.warn(
                f"weights or logits of finished nodes are missing, {missing[0]} and others ({len(missing)}): "
                "what needs them cannot be made, exported or scored again."
            )

    def _supporting(self) -> list[Node]:
        """Return the independent teachers, and what finished cells rest on; others come with theirs."""
        rows = self.plan.compared
        supporting = {node.id: node for node in self.plan.idle_teachers}
        for cell in self.plan.cells:
            record = None if cell.refusal else self.directory.record(cell.id)
            if record and record.status == "ok":
                supporting |= {id: node for id, node in cell.node.ancestors.items() if id not in rows}
        return list(supporting.values())

    def _make(self, executor: Executor) -> None:
        works = works_of(self.plan, Site.of(self.workshop))
        follower = Follower({work.id: (work.label, work.epochs) for work in works}, self.progress)
        if works:
            executor.run(works, follower.tell)
            follower.end()

    def _amend(self) -> None:
        """Bring the finished records to what the suite asks for beside training."""
        rows = self.plan.compared.values()
        examples = self.directory.manifest()["sizes"]["train"]
        refuse_edited(self.plan)
        for amendment in (
            Costs(self.plan, self.directory, examples, self.progress),
            OwnMetrics(self.plan, self.directory, self.progress),
            IndependentTeacher(self.plan, self.directory, self.progress),
            CorruptionShift(self.plan, self.directory, lambda: self.workshop.session, self.progress),
        ):
            bring_up_to_date(amendment, rows, self.directory)

    def _write_manifest(self, session: Session | None) -> None:
        """Write what this run is; where nothing is left to train, what it says of the data stays."""
        suite = self.plan.suite
        before = self.directory.manifest() if self.directory.is_begun else {}
        # First: it is what makes the folder a run directory, whenever this is killed.
        self.directory.write_manifest(
            before
            | {
                "suite": suite.name,
                "description": suite.description,
                "dataset": suite.dataset.shown,
                "seeds": list(suite.seeds),
                "teachers": [teacher.id for teacher in self.plan.teachers],
                "supporting": [node.id for node in self.plan.supporting],
                "cells": [cell.id for cell in self.plan.cells],
                "labels": self.plan.labels,
                "started": before.get("started") or now(),
            }
            | (_data_and_machine(session.data) if session else {}),
            suite.to_yaml(),
        )
        self.directory.write_columns(_columns(self.plan))

    def _forget_failures(self) -> None:
        for id in (*self.plan.nodes, *(cell.id for cell in self.plan.cells)):
            record = self.directory.record(id)
            if record and record.status == "failed":
                shutil.rmtree(self.directory.folder(record.id))

    def _outcome(self) -> Outcome:
        statuses = [record.status for record in self.directory.records() if record.role == "student"]
        return Outcome(
            self.directory.path, statuses.count("ok"), statuses.count("failed"), statuses.count("skipped")
        )


def _data_and_machine(data: Dataset) -> dict[str, Any]:
    return {
        "classes": list(data.classes),
        **({"heads": {head: list(classes) for head, classes in data.heads.items()}} if data.heads else {}),
        "target": data.target,
        "headline": find_target(data.target).headline,
        **data.inputs.as_recorded(),
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
