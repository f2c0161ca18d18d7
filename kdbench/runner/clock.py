"""How long the parts of a run take on this machine: each is done a few times, once for every model."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdbench.inputs import Inputs
from kdbench.plan import Plan
from kdbench.runner.session import Session
from kdbench.shared_state import kept_settings
from kdbench.suite.schema import ModelEntry
from kdbench.training.precision import autocast, resolve

REPEATS = 3

Kind = Literal["step", "teach", "predict"]


class Clock:
    """Times models of a plan on a device; no more than once for the same work."""

    def __init__(self, plan: Plan, session: Session) -> None:
        """Take the plan, which says the inputs, and what builds its models on the device."""
        self._plan = plan
        self._session = session
        self._device = session.device
        self._known: dict[tuple[Kind, str, int], float] = {}

    def step(self, entry: ModelEntry, batch: int) -> float:
        """Return the seconds of a plain training step: forward, cross-entropy, backward."""
        return self._timed("step", entry, batch)

    def teach(self, entry: ModelEntry, batch: int) -> float:
        """Return the seconds of a forward pass in the precision of training."""
        return self._timed("teach", entry, batch)

    def predict(self, entry: ModelEntry, batch: int) -> float:
        """Return the seconds of a forward pass in evaluation mode and float32."""
        return self._timed("predict", entry, batch)

    def process_start(self) -> float:
        """Return the seconds until a process that measures has read its libraries."""
        started = time.perf_counter()
        code = "import sys; sys.path[:] = sys.argv[1:]; import kdbench.efficiency.worker"
        subprocess.run([sys.executable, "-P", "-c", code, *sys.path], capture_output=True, check=True)
        return time.perf_counter() - started

    def of(self, call: Callable[[], object], repeats: int = REPEATS) -> float:
        """Return the median seconds of a call, after one that is not timed."""
        call()
        seconds = []
        for _ in range(repeats):
            started = time.perf_counter()
            call()
            if self._device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - started)
        return median(seconds)

    def _timed(self, kind: Kind, entry: ModelEntry, batch: int) -> float:
        key = (kind, entry.shown, batch)
        if key not in self._known:
            self._known[key] = self.of(self._call(kind, entry, batch))
        return self._known[key]

    def _call(self, kind: Kind, entry: ModelEntry, batch: int) -> Callable[[], None]:
        plan = self._plan
        model = self._session.build(entry.model_copy(update={"checkpoint": None})).train(kind == "step")
        x = plan.inputs.example(batch, self._device)
        y = torch.zeros(batch, dtype=torch.long, device=self._device)
        precision = resolve(plan.suite.recipe.precision if kind != "predict" else "fp32", self._device)

        def call() -> None:
            with kept_settings():
                with torch.set_grad_enabled(kind == "step"), autocast(precision, self._device):
                    loss = _loss(model, x, y)
                if kind == "step":
                    loss.backward()

        return call


def _loss(model: nn.Module, x: Inputs, y: Tensor) -> Tensor:
    return F.cross_entropy(model(x).float(), y)
