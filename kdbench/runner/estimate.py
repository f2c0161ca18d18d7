"""How long a plan will take here, and in how much memory: steps are timed, students built and weighed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdbench.data import load_entry
from kdbench.entries import ModelEntry
from kdbench.plan import Cohort, Plan
from kdbench.runner.assembly import Room, trainee_of
from kdbench.runner.session import Device, Fitted, Session, resolve_device
from kdbench.training.footprint import held_bytes, step_bytes
from kdbench.training.precision import autocast, resolve
from kdbench.training.trainee import Tutor

REPEATS = 3


@dataclass(frozen=True)
class Estimate:
    """How long the training of a plan takes here, and the memory of its cohorts, by their label."""

    seconds: float
    cohorts: dict[str, CohortMemory]


@dataclass(frozen=True)
class CohortMemory:
    """How many students each part of a cohort has that trains at once, and the bytes of the largest part."""

    parts: tuple[int, ...]
    bytes: int


def estimate(
    plan: Plan, data_root: Path | None = None, device: Device = "auto", memory_budget: int | None = None
) -> Estimate:
    """Return about how long the training of a plan takes on this machine, and how its cohorts are split.

    The teacher's forward pass and one plain training step of every student are timed at the plan's batch
    size. Left out are what methods add (adapters, assistants), evaluation and measuring; a teacher
    counts even where it exists already. The memory is that of the real students and adapters, of the first
    seed, beside a teacher with random weights.
    """
    data = load_entry(plan.suite.dataset, root=data_root, memory_budget=memory_budget)
    session = Session(plan.suite.dataset, data, resolve_device(device))
    return Estimate(
        _seconds(plan, len(data.train), _Clock(plan, session)),
        {
            cohort.label: _memory(cohort, session, memory_budget)
            for cohort in plan.cohorts
            if cohort.seed == plan.suite.seeds[0]
        },
    )


def _seconds(plan: Plan, examples: int, clock: _Clock) -> float:
    total = 0.0
    for teacher in (*plan.teachers, *plan.idle_teachers):
        if teacher.entry.checkpoint is None:
            steps = examples / teacher.recipe.batch_size * teacher.recipe.epochs
            total += steps * clock.step(teacher.entry, teacher.recipe.batch_size)
    for cohort in plan.cohorts:
        batch = cohort.recipe.batch_size
        students = sum(clock.step(cell.entry, batch) for cell in cohort.cells if not cell.refusal)
        steps = examples / batch * cohort.recipe.epochs
        total += steps * (clock.forward(cohort.teacher.entry, batch) + students)
    return total


def _memory(cohort: Cohort, session: Session, budget: int | None) -> CohortMemory:
    x, _, _ = next(session.train.ordered(cohort.recipe.batch_size))
    tutors: dict[str, Fitted] = {}
    steps: dict[str, int] = {}
    rooms, counts = [Room(budget)], [0]
    for cell in cohort.cells:
        if cell.refusal:
            continue
        if cell.tutor.id not in tutors:
            entry = cell.tutor.entry
            tutors[cell.tutor.id] = Fitted(entry, session.build(entry), cell.tutor.taps)
        teacher = tutors[cell.tutor.id]
        trainee = trainee_of(cell, session, teacher, Tutor(teacher.model, teacher.taps))
        if cell.student not in steps:
            steps[cell.student] = step_bytes(trainee.model, x)
        need = held_bytes(trainee), steps[cell.student]
        if not rooms[-1].admits(*need):
            rooms.append(Room(budget))
            counts.append(0)
            rooms[-1].admits(*need)
        counts[-1] += 1
        trainee.reader.close()
    return CohortMemory(tuple(counts), max(room.taken for room in rooms))


class _Clock:
    """Times steps of models, each of them once."""

    def __init__(self, plan: Plan, session: Session) -> None:
        self._plan = plan
        self._session = session
        self._device = session.device
        self._known: dict[tuple[str, str, int], float] = {}

    def step(self, entry: ModelEntry, batch: int) -> float:
        return self._timed("step", entry, batch)

    def forward(self, entry: ModelEntry, batch: int) -> float:
        return self._timed("forward", entry, batch)

    def _timed(self, kind: str, entry: ModelEntry, batch: int) -> float:
        key = (kind, entry.shown, batch)
        if key not in self._known:
            plan = self._plan
            model = self._session.build(entry.model_copy(update={"checkpoint": None}))
            x = torch.randn(batch, *plan.input_shape, device=self._device)
            y = torch.zeros(batch, dtype=torch.long, device=self._device)
            precision = resolve(plan.suite.recipe.precision, self._device)

            def call() -> None:
                with torch.set_grad_enabled(kind == "step"), autocast(precision, self._device):
                    loss = _loss(model, x, y)
                if kind == "step":
                    loss.backward()

            self._known[key] = self._median(call)
        return self._known[key]

    def _median(self, call: Callable[[], None]) -> float:
        call()
        seconds = []
        for _ in range(REPEATS):
            started = time.perf_counter()
            call()
            if self._device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - started)
        return median(seconds)


def _loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(model(x).float(), y)
