"""What a column of the results means: the metadata that every table, figure and listing reads."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Direction = Literal["higher", "lower", "none"]
ARROWS: dict[Direction, str] = {"higher": "↑", "lower": "↓", "none": ""}


@dataclass(frozen=True)
class Column:
    """One measured quantity: its name in the results, and what a reader must know to use it.

    ``name`` is the column of ``results.csv`` and carries the unit where there is one
    (``latency_cpu_b1_p50_ms``). ``family`` groups columns in listings: task, fidelity,
    calibration, cost. ``range`` is written as in mathematics, for example ``[0, 1]``.
    ``source`` is the paper or the library whose definition is followed.
    """

    name: str
    title: str
    family: str
    direction: Direction
    unit: str = ""
    range: str = ""
    source: str = ""

    @property
    def arrow(self) -> str:
        """The arrow that tables print: up where higher is better, down where lower is."""
        return ARROWS[self.direction]

    def as_json(self) -> dict[str, Any]:
        """Return the fields as a plain dictionary."""
        return asdict(self)
