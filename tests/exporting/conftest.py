"""A run with a plain student, one that keeps a part of its teacher, and a model of a user's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdbench.runner import run
from kdbench.store import RunDirectory
from kdbench.suite import Suite

MINE = """
from torch import nn


def net(input_shape, num_classes, width=8):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, num_classes))
"""
SUITE = """
dataset: {name: digits, args: {limit: 300, limit_test: 200}, validation_fraction: 0.2}
teachers: [cnn_4]
students: [cnn_2, {name: "mine.py:net", label: mine, args: {width: 4}}]
methods: [scratch, {name: simkd, students: [cnn_2]}]
seeds: [0]
recipe: {epochs: 2, batch_size: 25, lr: 0.1, precision: fp32}
measure: {latency: false}
"""


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run directory, which no test may change."""
    folder = tmp_path_factory.mktemp("exporting")
    (folder / "mine.py").write_text(MINE)
    (folder / "small.yaml").write_text(SUITE)
    outcome = run(Suite.load(folder / "small.yaml"), folder / "run")
    assert (outcome.ok, outcome.failed) == (3, 0)
    return outcome.path


def cells(run: Path) -> dict[tuple[str, str], str]:
    """Return the ids of a run's cells by student and method."""
    records = (record for record in RunDirectory.open(run).records() if record.role == "student")
    return {(record.student, record.method): record.id for record in records}
