"""One process's share of a run: the data, the teachers it has needed so far, and the cohorts it trains."""

from __future__ import annotations

import gc
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from kdbench.data import load_entry
from kdbench.data.at_hand import compare_data, compared, refuse_other_data
from kdbench.plan import Cell, Cohort, Plan, TeacherPlan
from kdbench.plan.code import refuse_edited
from kdbench.progress import Progress
from kdbench.runner.costs import Costs
from kdbench.runner.session import Session
from kdbench.runner.students import CohortRun
from kdbench.runner.teachers import Teacher, obtain
from kdbench.store import RunDirectory

SCRATCH = ".scratch"


@dataclass(frozen=True)
class Setting:
    """Where a run works: its directory, the teacher store, the data, the device, the memory in bytes."""

    path: Path
    teacher_store: Path
    data_root: Path | None
    device: torch.device
    memory_budget: int

    def shared_by(self, processes: int) -> Setting:
        """Return the setting of each of several processes, which have the memory together."""
        return replace(self, memory_budget=max(1, self.memory_budget // processes))

    @property
    def scratch(self) -> Path:
        """The folder for files that are needed only while the run lasts."""
        return self.path / SCRATCH

    @property
    def directory(self) -> RunDirectory:
        """The run directory."""
        return RunDirectory(self.path)


class Trainer:
    """Trains the cohorts of a plan, one at a time; data and teachers are read when first needed."""

    def __init__(self, plan: Plan, setting: Setting, progress: Progress) -> None:
        """Take what to train, where, and who listens."""
        self.plan = plan
        self.setting = setting
        self.progress = progress
        self._teachers: dict[str, Teacher] = {}

    def waiting(self) -> list[Cell]:
        """Return the cells that have no record yet."""
        directory = self.setting.directory
        return [cell for cell in self.plan.cells if directory.record("cells", cell.id) is None]

    def finished(self) -> list[dict[str, Any]]:
        """Return the records of the plan that tell what data they are of."""
        directory = self.setting.directory
        every = (*self.plan.teachers, *self.plan.supporting)
        teachers = (directory.record("teachers", teacher.id) for teacher in every)
        cells = (directory.record("cells", cell.id) for cell in self.plan.cells)
        return [
            record for record in (*teachers, *cells) if record and record["provenance"].get("data_checksum")
        ]

    def compare_data(self) -> None:
        """Compare the data at hand with that of the finished records, where nothing else needs the data.

        Raises UserError where it is other data; data that cannot be compared is told of.
        """
        for comparison in compare_data(
            self.finished(), self.setting.data_root, self.plan.suite.dataset.folder
        ):
            refuse_other_data(comparison, self.setting.path)
            if comparison.uncompared:
                self.progress.note(f"the data was not compared with the records: {comparison.uncompared}")

    @cached_property
    def session(self) -> Session:
        """The data on the device; raises UserError where it is not what the run was begun with."""
        entry = self.plan.suite.dataset
        data = load_entry(
            entry,
            root=self.setting.data_root,
            memory_budget=self.setting.memory_budget,
            scratch=self.setting.scratch,
            progress=self.progress,
        )
        refuse_other_data(compared(entry, self.finished(), data.checksum), self.setting.path)
        return Session(entry, data, self.setting.device)

    def teacher(self, plan: TeacherPlan) -> Teacher:
        """Return a teacher, trained or loaded if that was not done yet."""
        if plan.id not in self._teachers:
            refuse_edited(self.plan)
            store, directory = self.setting.teacher_store, self.setting.directory
            self._teachers[plan.id] = obtain(plan, self.session, directory, store, self.progress)
        return self._teachers[plan.id]

    def train(self, cohort: Cohort, costs: Costs) -> None:
        """Train what is not finished of a cohort."""
        refuse_edited(self.plan)
        waiting = self.waiting()
        pending = [cell for cell in cohort.cells if cell in waiting]
        self.progress.cohort(self.plan.cohorts.index(cohort) + 1, cohort.label)
        CohortRun(
            cohort,
            self.teacher(cohort.teacher),
            self.teacher,
            self.session,
            costs,
            self.setting.directory,
            self.progress,
            self.setting.memory_budget,
        ).carry_out(pending)

    def release(self) -> None:
        """Give back the memory of the data and the teachers; they are read again when they are needed."""
        self._teachers.clear()
        self.__dict__.pop("session", None)
        gc.collect()
        if self.setting.device.type == "cuda":
            torch.cuda.empty_cache()
