"""Which figures are bounds where not every operator of a model could be counted."""

from __future__ import annotations

from typing import Literal

Bound = Literal["lower", "upper"]

# Above 0 in this column, the columns below are bounds and no facts.
UNCOUNTED = "macs_uncounted"
BOUNDED: dict[str, Bound] = {
    "macs": "lower",
    "macs_fvcore": "lower",
    "activations": "lower",
    "train_macs": "lower",
    "theoretical_speedup": "upper",
}
SIGNS: dict[Bound, str] = {"lower": "≥", "upper": "≤"}


def bound_of(column: str, uncounted: float | None) -> Bound | None:
    """Return which bound a column's figure is, given a model's calls that were not counted; None for a fact.

    >>> bound_of("macs", 2), bound_of("macs", 0), bound_of("params", 2)
    ('lower', None, None)
    """
    return BOUNDED.get(column) if uncounted else None


def signed(text: str, bound: Bound | None) -> str:
    """Return a figure as tables show it.

    >>> signed("1.15 M", "lower"), signed("1.15 M", None)
    ('≥ 1.15 M', '1.15 M')
    """
    return f"{SIGNS[bound]} {text}" if bound else text
