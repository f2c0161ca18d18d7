"""What a column of the results means: the metadata that every table, figure and listing reads."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from kdbench.errors import UserError, unknown
from kdbench.place import Place

Direction = Literal["higher", "lower", "none"]
# How a value is written: a proportion in percent (its differences in points), counts, rates and bytes with a
# prefix (278 k), a ratio with its ×, milliseconds and joules to three digits, all else to three decimals.
Scale = Literal["percent", "count", "rate", "bytes", "ratio", "ms", "joule", "plain"]
Epoch = Literal["last", "best"]
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

    ``quantity`` is what is measured, whichever the head, the epoch and the place: that of
    ``coarse_label.top1_best_val`` is ``top1``, that of ``latency_cpu_b1_p50_ms`` is ``latency_p50``; without
    one it is the name. ``head`` is the further head whose labels are predicted, ``epoch`` the last or that
    best on validation, and ``place`` where a cost was measured by running the model.
    """

    name: str
    title: str
    family: str
    direction: Direction
    unit: str = ""
    range: str = ""
    source: str = ""
    scale: Scale = "plain"
    quantity: str = ""
    head: str = ""
    epoch: Epoch = "last"
    place: Place | None = None

    def __post_init__(self) -> None:
        """Take the name for the quantity where none is named."""
        if not self.quantity:
            object.__setattr__(self, "quantity", self.name)

    @property
    def is_timed(self) -> bool:
        """Whether it is a latency, or made of one: a throughput, a speed-up."""
        return self.place is not None and self.scale in ("ms", "rate", "ratio")

    @property
    def arrow(self) -> str:
        """The arrow that tables print: up where higher is better, down where lower is."""
        return ARROWS[self.direction]

    @property
    def label(self) -> str:
        """The title as it stands within a sentence: ``top-1 accuracy``."""
        first, rest = self.title[:1], self.title[1:]
        return self.title if rest[:1].isupper() else first.lower() + rest

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
