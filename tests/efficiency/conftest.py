"""What measures is tested as it is: in a process of its own."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def apart(measured_apart: None) -> None:
    """Have every test here count models apart."""
