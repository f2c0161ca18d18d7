"""What captions of several figures say: of n, whiskers, the test set and axes that do not begin at zero."""

from __future__ import annotations

from kdbench.analysis.summary import Summary
from kdbench.report import numerals


def truncation(low: float, quantity: str = "accuracy") -> str:
    """Return what a caption says of an axis that does not begin at zero."""
    return "" if low <= 0 else f"The {quantity} axis begins at {low:.0f} %, not at 0."


def whiskers(summary: Summary) -> str:
    """Return what a caption says of n and of the whiskers."""
    if summary.seed_counts[-1] < 2:
        return "Each point is one seed (n = 1): there are no whiskers."
    text = f"Points are means over {seeds(summary)}, whiskers their 95 % t intervals."
    ends = [row.metrics["top1"] for row in summary.measured]
    beyond = any((end.low or 0.0) < 0 or (end.high or 0.0) > 1 for end in ends)
    return f"{text} Intervals that reach beyond 0 or 100 % are cut off there." if beyond else text


def seeds(summary: Summary) -> str:
    """Return the number of seeds behind the rows, of which there is at least one: ``n = 2 to 3 seeds``."""
    counts = summary.seed_counts
    if len(counts) > 1:
        return f"n = {counts[0]} to {counts[-1]} seeds"
    return f"n = {counts[0]} seed{'' if counts[0] == 1 else 's'}"


def examples(summary: Summary) -> str:
    """Return what a caption says of the test set."""
    size = summary.test_size
    return f"Test set: {size:,} examples (one is {numerals.significant(100 / size, 2)} points)."


def subject(summary: Summary) -> str:
    """Return whom a figure is about: the students of which teacher, on what data."""
    return f"students of {' and '.join(summary.teacher_names)} on {summary.manifest['dataset']}"
