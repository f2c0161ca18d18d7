"""The names of what a worker does with a model; a failure is recorded under the step that it ended.

A model is timed under the name of its place (``cpu_b1``); memory and energy have steps of their own.
"""

from __future__ import annotations

BUILD = "build"
COUNT = "count"


def memory_step(device: str, batch: int) -> str:
    """Return the step that takes a model's memory on one device at one batch size."""
    return f"memory_{device}_b{batch}"


def energy_step(device: str, batch: int) -> str:
    """Return the step that takes a model's energy on one device at one batch size."""
    return f"energy_{device}_b{batch}"
