"""One process's share of a run: the data, the teachers it has needed so far, and the cohorts it trains."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from kdbench.data import load_entry
from kdbench.errors import UserError
from kdbench.plan import Cell, Plan, TeacherPlan
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
        directory = self.setting.directory
        for cell in self.plan.cells:
            record = directory.record("cells", cell.id)
            known = record and record["provenance"].get("data_checksum")
            if known and known != data.checksum:
                raise UserError(
                    f"the data of '{entry.name}' changed since {directory.path} was begun "
                    f"(checksum {known[:12]} then, {data.checksum[:12]} now): choose another --out."
                )
        return Session(entry, data, self.setting.device)

    def teacher(self, plan: TeacherPlan) -> Teacher:
        """Return a teacher, trained or loaded if that was not done yet."""
        if plan.id not in self._teachers:
            store, directory = self.setting.teacher_store, self.setting.directory
            self._teachers[plan.id] = obtain(plan, self.session, directory, store, self.progress)
        return self._teachers[plan.id]

    def train(self, number: int, costs: Costs) -> None:
        """Train what is not finished of a cohort; they are numbered from 1."""
        cohort = self.plan.cohorts[number - 1]
        waiting = self.waiting()
        pending = [cell for cell in cohort.cells if cell in waiting]
        self.progress.cohort(number, cohort.label)
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
