"""What tests of runs look at: what a run tells meanwhile, and the results that must not depend on how."""

from __future__ import annotations

from pathlib import Path

from kdbench.progress import Progress
from kdbench.store import RunDirectory

CHANGING = ("train_seconds", "train_time_share", "cohort_peak_bytes")
# A student whose width is in a file that its own imports.
NET = """
from torch import nn
def build(input_shape, num_classes):
    import width
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width.WIDTH), nn.ReLU(),
                         nn.Linear(width.WIDTH, num_classes))
"""


class Listening(Progress):
    """Remembers notes, stages and how far they came."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.stages: list[tuple[str, int]] = []
        self.done: list[float] = []

    def begin(self, label: str, total: int, unit: str) -> None:
        self.stages.append((label, total))

    def advance(self, done: float, detail: str = "") -> None:
        self.done.append(done)

    def note(self, text: str) -> None:
        self.notes.append(text)


def results(path: Path) -> dict[str, dict[str, float | None]]:
    """Return the metrics of every row of a run, by id, without those that are of time and memory."""
    return {
        record.id: {name: value for name, value in record.metrics.items() if name not in CHANGING}
        for record in RunDirectory.open(path).records()
    }


def write_net(folder: Path) -> str:
    """Write a student of a user's own, which imports another file, and return how a suite names it."""
    (folder / "width.py").write_text("WIDTH = 4\n")
    (folder / "net.py").write_text(NET)
    return f"students=[{{name: '{folder}/net.py:build', label: net}}]"
