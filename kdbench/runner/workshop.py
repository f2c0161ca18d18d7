"""One process's share of a run: the data, and any node of the plan, made or had again when it is needed.

Teachers and assistants live in the *teacher store*, which the runs of the folder ``runs`` share; any other
run keeps its own in itself, unless it is given a store. A run copies what it takes from a store, so that it
can be read alone. Everything else lives in the run.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch

from kdbench.data import load_entry
from kdbench.data.at_hand import compare_data, compared, refuse_other_data
from kdbench.errors import SharedFault, UserError
from kdbench.plan import Cell, Cohort, Node, Plan
from kdbench.plan.code import refuse_edited
from kdbench.progress import Progress
from kdbench.runner.cohorts import CohortRun
from kdbench.runner.finishing import Finishing
from kdbench.runner.finiteness import refuse_not_finite
from kdbench.runner.making import Bench, make
from kdbench.runner.networks import Network, Ready, network_of
from kdbench.runner.predictions import read_predictions
from kdbench.runner.records import relabel_one
from kdbench.runner.session import Session
from kdbench.runner.shelf import copied, explained, tell
from kdbench.store import Record, RunDirectory, locked

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


class Workshop:
    """Makes the nodes of a plan; data and teachers are read when first needed."""

    def __init__(self, plan: Plan, setting: Setting, progress: Progress) -> None:
        """Take what to make, where, and who listens."""
        self.plan = plan
        self.setting = setting
        self.progress = progress
        self.run = setting.directory
        self._ready: dict[str, Ready] = {}

    def waiting(self) -> list[Cell]:
        """Return the cells that have no record yet."""
        return [cell for cell in self.plan.cells if self.run.record(cell.id) is None]

    def finished(self) -> list[Record]:
        """Return the records of the plan that tell what data they are of."""
        every = self.run.existing([*self.plan.nodes, *(cell.id for cell in self.plan.cells)])
        return [record for record in every if record.provenance.get("data_checksum")]

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

    @cached_property
    def bench(self) -> Bench:
        """What the nodes of this plan are made with."""
        finishing = Finishing(
            self.plan, self.session, lambda node: self.teacher(node).predictions, self._seconds_of
        )
        return Bench(self.session, finishing, self.progress, self.network, self.teacher, self.obtain)

    def teacher(self, node: Node) -> Ready:
        """Return a node that teaches, made if that was not done yet; it is kept for all that it teaches."""
        if node.id not in self._ready:
            record, shelf = self.obtain(node)
            predictions = read_predictions(shelf, record, self.session.data.outputs)
            network = network_of(node, record, shelf, self.session)
            refuse_not_finite(node, network.model.state_dict(), predictions, shelf.folder(node.id))
            network.model.eval()
            self._ready[node.id] = Ready(node, network, predictions)
        return self._ready[node.id]

    def network(self, node: Node) -> Network:
        """Return the network of a node to go on from, the caller's own; it is made if need be."""
        record, shelf = self.obtain(node)
        return network_of(node, record, shelf, self.session)

    def obtain(self, node: Node) -> tuple[Record, RunDirectory]:
        """Return the record of a node, which is made if there is none, and where its files are.

        Raises:
            SharedFault: where its files were damaged, or are of other data.
            UserError: where it cannot be made, or could not be.
        """
        mine = self.run.record(node.id)
        if mine and mine.status != "ok":
            raise UserError(f"what it begins from, {node.label}, {mine.status}: {mine.outcome}")
        shared = node.role != "student"
        shelf = RunDirectory(self.setting.teacher_store) if shared else self.run
        new = mine is None
        folder = shelf.folder(node.id)
        with locked(folder, wait=True):
            record = shelf.record(node.id)
            if record is None or (record.status == "ok" and not shelf.holds(record, record.weights())):
                refuse_edited(self.plan)
                with explained(node, folder):
                    record = make(node, self.bench, shelf)
        if record.status != "ok":
            raise UserError(f"what it begins from, {node.label}, {record.status}: {record.outcome}")
        if record.provenance["data_checksum"] != self.session.data.checksum:
            raise SharedFault(
                f"{node.role} '{node.label}' was trained on other data under the name "
                f"'{self.session.dataset_label}': delete {folder} to train it again."
            )
        if new and shared:
            copied(record, shelf, self.run)
            if node.id in self.plan.labels:
                relabel_one(node.id, self.plan.labels[node.id], self.run)
            tell(node, record, shelf, self.session, self.progress)
        return record, shelf

    def make(self, cohort: Cohort) -> None:
        """Make what is not finished of a cohort."""
        refuse_edited(self.plan)
        waiting = {cell.id for cell in self.waiting()}
        self.progress.cohort(self.plan.cohorts.index(cohort) + 1, cohort.label)
        CohortRun(cohort, self.bench, self.run, self.setting.memory_budget).carry_out(
            [cell for cell in cohort.cells if cell.refusal and cell.id in waiting],
            [node for node in cohort.nodes if self.run.record(node.id) is None],
        )

    def release(self) -> None:
        """Give back the memory of the data and the teachers; they are read again when they are needed."""
        self._ready.clear()
        for name in ("session", "bench"):
            self.__dict__.pop(name, None)
        gc.collect()
        if self.setting.device.type == "cuda":
            torch.cuda.empty_cache()

    def _seconds_of(self, node: Node) -> float | None:
        record = self.run.record(node.id)
        return record.durations.get("train_seconds") if record else None
