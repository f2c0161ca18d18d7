"""What a comparison says beyond its difference by seed: as raw values and as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kdbench.analysis.comparison import Comparison
from kdbench.analysis.power import POWER
from kdbench.column import Column
from kdbench.report import numerals

NOTHING = "seeds spread so much that no possible difference would be shown"


def raw_evidence(comparison: Comparison | None) -> dict[str, Any]:
    """Return the values for machines; all are None where there is no comparison."""
    examples = comparison.examples if comparison is not None else None
    return {
        "detectable": comparison.detectable if comparison else None,
        "detectable_reason": NOTHING if comparison and comparison.shows_nothing else None,
        "p_better": comparison.improvement if comparison else None,
        "examples": examples.n if examples else None,
        "difference_examples_low": examples.low if examples else None,
        "difference_examples_high": examples.high if examples else None,
        "difference_both_low": examples.both_low if examples else None,
        "difference_both_high": examples.both_high if examples else None,
        "difference_both_reason": examples.both_reason if examples else None,
        "mcnemar_p_by_seed": list(examples.p_by_seed) if examples else None,
        "mcnemar_p": examples.p if examples else None,
        "mcnemar_p_holm": examples.p_holm if examples else None,
        "examples_reason": examples.reason if examples else None,
    }


def interval_text(column: Column, low: float | None, high: float | None, decimals: int) -> str:
    """Return the bounds of a difference in brackets, or nothing where they are not known."""
    if low is None or high is None:
        return ""
    return f"[{numerals.difference(column, low, decimals)}, {numerals.difference(column, high, decimals)}]"


def p_text(p: float) -> str:
    """Return a p-value with its sign: ``p = 0.040`` or ``p < 0.001``."""
    text = numerals.p_value(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def has_examples(comparisons: Sequence[Comparison]) -> bool:
    """Return whether the test examples say anything of any comparison."""
    return any(comparison.examples.p is not None for comparison in comparisons)


def why_no_examples(comparisons: Sequence[Comparison]) -> list[str]:
    """Return why the test examples say nothing, where they say nothing of any comparison."""
    reasons = dict.fromkeys(filter(None, (comparison.examples.reason for comparison in comparisons)))
    if has_examples(comparisons) or not reasons:
        return []
    return [f"Nothing is said of other test examples (McNemar, bootstrap): {'; '.join(reasons)}."]


def detectable_note(comparisons: Sequence[Comparison]) -> list[str]:
    """Return how to read the smallest difference that a run could have shown."""
    tested = sum(comparison.sd is not None for comparison in comparisons)
    if not tested:
        return []
    nothing = (
        " Nothing could be shown where that is more than the range of the metric leaves."
        if any(comparison.shows_nothing for comparison in comparisons)
        else ""
    )
    level = f"0.05/{tested:,}, the first step of Holm's correction" if tested > 1 else "0.05"
    return [
        f"'Could show' is the smallest true difference that such a run shows in {100 * POWER:.0f} % of "
        f"repetitions, tested at {level}; it rests on the spread of the same few seeds.{nothing}"
    ]


def examples_note(comparisons: Sequence[Comparison]) -> list[str]:
    """Return what the interval over seeds and examples covers, and what McNemar's p is and is not."""
    if not has_examples(comparisons):
        return why_no_examples(comparisons)
    tested = sum(comparison.examples.p is not None for comparison in comparisons)
    over = f" (Holm over {tested:,})" if tested > 1 else ""
    crossed = (
        "The interval over seeds × examples covers other seeds and another test set of this size. "
        if any(comparison.examples.both_low is not None for comparison in comparisons)
        else ""
    )
    alone = "The interval over examples and " if not crossed else ""
    verb = "are" if alone else "is"
    return [
        f"{crossed}{alone}McNemar's p{over} {verb} of the models as they were trained: another training may "
        "differ by more."
    ]
