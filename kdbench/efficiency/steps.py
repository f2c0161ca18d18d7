"""The names of what a worker does with a model; a failure is recorded under the step that it ended."""

from __future__ import annotations

BUILD = "build"
COUNT = "count"


def timing_step(device: str, batch: int) -> str:
    """Return the step that times a model on one device at one batch size: ``cpu_b1``."""
    return f"{device}_b{batch}"
