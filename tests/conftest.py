"""Shared settings: one thread a test process, a small suite that trains in seconds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

# before torch is imported: two test processes share two cores
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings

from kdbench.suite import Suite

# A busy machine is not a fault of the code. The suite tries the same examples each time, so that it fails
# for what changed and for nothing else; `make fuzz` looks for new ones.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("repeatable", patient, derandomize=True, max_examples=40)
settings.register_profile("fuzz", patient, max_examples=2_000, print_blob=True)
settings.load_profile("repeatable")

SMALL = """
description: a suite that trains in seconds
dataset: {name: digits, args: {limit: 300, limit_test: 200}, validation_fraction: 0.2}
teachers: [{name: cnn_4, recipe: {epochs: 4}}]
students: [mlp_16, cnn_2]
methods:
  - scratch
  - {name: kd, temperature: 2}
seeds: [0, 1]
recipe: {epochs: 2, batch_size: 25, lr: 0.1, precision: fp32}
measure: {latency: false}
"""


@pytest.fixture(scope="session", autouse=True)
def counted_here() -> Iterator[None]:
    """Count models without a process for it, but where a test asks for `measured_apart`."""
    from tests.counting import measuring, without_process

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "_run_worker", without_process)
        yield


@pytest.fixture
def measured_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count models in a process of its own, as outside of tests."""
    from tests.counting import in_process_of_its_own, measuring

    monkeypatch.setattr(measuring, "_run_worker", in_process_of_its_own)


@pytest.fixture
def write_suite(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a suite file, the small one by default."""

    def write(text: str = SMALL, name: str = "small") -> Path:
        file = tmp_path / f"{name}.yaml"
        file.write_text(text)
        return file

    return write


@pytest.fixture
def small_suite(write_suite: Callable[..., Path]) -> Callable[..., Suite]:
    """Return a function that loads the small suite with overrides."""

    def load(*overrides: str) -> Suite:
        return Suite.load(write_suite(), overrides)

    return load
