"""What a column of the results means: the metadata that every table, figure and listing reads."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from kdbench.errors import UserError, unknown

Direction = Literal["higher", "lower", "none"]
ARROWS: dict[Direction, str] = {"higher": "↑", "lower": "↓", "none": ""}

# What papers and libraries call a column, where no spelling leads from it to its name.
SYNONYMS = {
    "accuracy": "top1",
    "acc": "top1",
    "acc1": "top1",
    "top1_accuracy": "top1",
    "test_accuracy": "top1",
    "acc5": "top5",
    "top5_accuracy": "top5",
    "f1": "macro_f1",
    "loss": "nll",
    "cross_entropy": "nll",
    "log_loss": "nll",
    "kl": "kl_teacher_student",
    "fidelity": "agreement",
    "kappa": "cohen_kappa",
    "cka": "cka_pooled",
    "auroc": "error_auroc",
    "temperature": "temperature_fitted",
    "parameters": "params",
    "flops": "macs",
    "size": "size_bytes",
    "latency": "latency_cpu_b1_p50_ms",
    "speedup": "speedup_cpu_b1",
}


def unknown_column(name: str, columns: Iterable[str]) -> UserError:
    """Return the error for a column that a run does not have: the one that is meant, or all there are."""
    return unknown("metric", name, columns, SYNONYMS)


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

    @property
    def bounds(self) -> tuple[float, float]:
        """The ends of ``range`` as numbers; one that is no number, or not given, is infinite.

        >>> Column("js", "JS", "fidelity", "lower", range="[0, ln 2]").bounds
        (0.0, 0.6931471805599453)
        """
        low, _, high = self.range.strip("[]()").partition(", ")
        return _number(low, -math.inf), _number(high, math.inf)

    def as_json(self) -> dict[str, Any]:
        """Return the fields as a plain dictionary."""
        return asdict(self)


def _number(text: str, otherwise: float) -> float:
    try:
        return math.log(float(text[3:])) if text.startswith("ln ") else float(text)
    except ValueError:
        return otherwise
