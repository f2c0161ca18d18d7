"""What measures is tested as it is: in its own process, however busy the machine is that runs the tests."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from kdbench.efficiency import rounds

LIMITS = {name: getattr(rounds, name) for name in ("MOST_WIDTH", "MOST_SPREAD")}


@pytest.fixture(autouse=True)
def apart(measured_apart: None) -> None:
    """Have every test here count models apart."""


@pytest.fixture(scope="package", autouse=True)
def no_machine_is_too_noisy() -> Iterator[None]:
    """Lift the limits of noise, which the tests of noise set again."""
    with pytest.MonkeyPatch.context() as patch:
        for name in LIMITS:
            patch.setattr(rounds, name, math.inf)
        yield


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the limits of noise as they are for users."""
    for name, value in LIMITS.items():
        monkeypatch.setattr(rounds, name, value)
