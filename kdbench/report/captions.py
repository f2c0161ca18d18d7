"""What captions of several figures say: of n, whiskers, the test set and axes that do not begin at zero."""

from __future__ import annotations

from kdbench.analysis.outcomes import SHARES
from kdbench.analysis.summary import Summary
from kdbench.column import Column
from kdbench.printable import counted
from kdbench.report import numerals


def sentences(*parts: str) -> str:
    """Return the sentences of a caption that are not empty, in a row."""
    return " ".join(filter(None, parts))


def noun(column: Column) -> str:
    """Return a word for a metric where its title would be too long."""
    return "accuracy" if column.quantity == "top1" else column.label


def truncation(low: float, column: Column, word: str = "") -> str:
    """Return what a caption says of an axis that does not begin at zero, which it calls by a word."""
    start = f"{low:.0f} %" if column.scale == "percent" else f"{low:.3g}"
    return "" if low <= 0 else f"The {word or noun(column)} axis begins at {start}, not at 0."


def whiskers(summary: Summary) -> str:
    """Return what a caption says of n and of the whiskers."""
    if summary.seed_counts[-1] < 2:
        return "Each point is one seed (n = 1): there are no whiskers."
    text = f"Points are means over {seeds(summary)}, whiskers their 95 % t intervals."
    column = summary.headline_column
    lowest, highest = column.bounds
    ends = [row.metrics[column.name] for row in summary.measured]
    beyond = any((end.low or 0.0) < lowest or (end.high or 0.0) > highest for end in ends)
    limits = "0 or 100 %" if column.scale == "percent" else "what the metric can be"
    return f"{text} Intervals that reach beyond {limits} are cut off there." if beyond else text


def seeds(summary: Summary) -> str:
    """Return the number of seeds behind the rows, of which there is at least one: ``n = 2 to 3 seeds``."""
    counts = summary.seed_counts
    if len(counts) > 1:
        return f"n = {counts[0]} to {counts[-1]} seeds"
    return f"n = {counted(counts[0], 'seed')}"


def examples(summary: Summary) -> str:
    """Return what a caption says of the test set."""
    size = summary.test_size
    share = summary.headline_column.quantity in SHARES
    one = f" (one is {numerals.significant(100 / size, 2)} points)" if share else ""
    return f"Test set: {size:,} examples{one}."


def subject(summary: Summary) -> str:
    """Return whom a figure is about: the students of which teacher, on what data."""
    return f"students of {' and '.join(summary.teacher_names)} on {summary.manifest['dataset']}"
