"""How long a plan will take here: one training step of every model is timed and multiplied out."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdbench.data import load_dataset
from kdbench.models import build_model
from kdbench.plan import Plan
from kdbench.runner.session import Device, resolve_device
from kdbench.suite import ModelEntry
from kdbench.training.precision import autocast, resolve

REPEATS = 3


def estimate_seconds(plan: Plan, data_root: Path | None = None, device: Device = "auto") -> float:
    """Return about how many seconds the training of a plan takes on this machine.

    The teacher's forward pass and one plain training step of every student are timed at the plan's batch
    size. Left out are what methods add (adapters, assistants), evaluation and measuring; a teacher
    counts even where it exists already.
    """
    entry = plan.suite.dataset
    data = load_dataset(
        entry.name,
        root=data_root,
        validation_fraction=entry.validation_fraction,
        split_seed=entry.split_seed,
        args=entry.args,
    )
    clock = _Clock(plan, resolve_device(device))
    total = 0.0
    for teacher in plan.teachers:
        if teacher.entry.checkpoint is None:
            steps = len(data.train) / teacher.recipe.batch_size * teacher.recipe.epochs
            total += steps * clock.step(teacher.entry, teacher.recipe.batch_size)
    for cohort in plan.cohorts:
        batch = cohort.recipe.batch_size
        students = sum(clock.step(cell.entry, batch) for cell in cohort.cells if not cell.refusal)
        steps = len(data.train) / batch * cohort.recipe.epochs
        total += steps * (clock.forward(cohort.teacher.entry, batch) + students)
    return total


class _Clock:
    """Times steps of models, each of them once."""

    def __init__(self, plan: Plan, device: torch.device) -> None:
        self._plan = plan
        self._device = device
        self._known: dict[tuple[str, str, int], float] = {}

    def step(self, entry: ModelEntry, batch: int) -> float:
        return self._timed("step", entry, batch)

    def forward(self, entry: ModelEntry, batch: int) -> float:
        return self._timed("forward", entry, batch)

    def _timed(self, kind: str, entry: ModelEntry, batch: int) -> float:
        key = (kind, entry.shown, batch)
        if key not in self._known:
            plan = self._plan
            model = build_model(
                entry.name, input_shape=plan.input_shape, num_classes=plan.num_classes, args=entry.args
            )
            model = model.to(self._device).to(memory_format=torch.channels_last)
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
