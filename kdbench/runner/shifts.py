"""Shifted test images: the part of the test split that models are shown clean and under every corruption."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kdbench.data import Batches, Split
from kdbench.data.corruptions import corrupt, selected
from kdbench.data.dataset import Streamed
from kdbench.data.splits import balanced
from kdbench.metrics.robustness import QUANTITIES, Point
from kdbench.runner.session import Session
from kdbench.suite.measurements import RobustnessEntry
from kdbench.training.evaluation import BATCH

SEED = 0


@dataclass(frozen=True)
class Shift:
    """One corruption at one severity; severity 0 is the clean images."""

    corruption: str
    severity: int


CLEAN = Shift("none", 0)


class Images:
    """The test images that a suite asks for, under every shift; none is computed before it is asked for."""

    def __init__(self, entry: RobustnessEntry, session: Session) -> None:
        """Choose the examples."""
        test = session.data.test
        self._rows = torch.arange(len(test))
        if entry.examples is not None:
            self._rows = torch.from_numpy(balanced(test.labels.numpy(), entry.examples))
        self._session = session
        self.labels = test.labels[self._rows]
        self._corruptions = {kind.name: kind for kind in selected(entry.references)}
        self._severities = list(entry.severities)
        self.shifts = (CLEAN, *(Shift(name, s) for name in self._corruptions for s in self._severities))

    def shown(self, shift: Shift) -> Iterator[Batches]:
        """Yield the images under a shift, a batch's worth at a time, ready for any number of models."""
        data, device = self._session.data, self._session.device
        for rows in self._rows.split(BATCH):
            images = self._clean(rows).to(device)
            if shift != CLEAN:
                images = corrupt(
                    images, self._corruptions[shift.corruption], shift.severity, rows=rows, seed=SEED
                )
            fields = {name: values[rows] for name, values in data.test.fields.items()}
            split = Split(images, data.test.labels[rows], fields=fields)
            yield Batches(split, data.mean, data.std, device=device)

    def _clean(self, rows: Tensor) -> Tensor:
        test = self._session.data.test
        if isinstance(test, Streamed):
            return torch.from_numpy(test.images[rows.numpy()].read())
        assert test.images is not None  # make_plan has refused data without images
        return test.images[rows]

    def table(self, points: Mapping[Shift, Point]) -> dict[str, Any]:
        """Return what a record keeps: quantity -> corruption -> a value a severity, and the clean values."""
        return {
            "examples": len(self.labels),
            "severities": self._severities,
            "clean": dict(points[CLEAN]),
            **{
                quantity: {
                    name: [points[Shift(name, severity)][quantity] for severity in self._severities]
                    for name in self._corruptions
                }
                for quantity in QUANTITIES
            },
        }
