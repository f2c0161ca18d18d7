"""Is it transfer? Agreement beyond that with an independent teacher, gains beyond those of a random one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from kdbench.analysis.comparison import Comparison, compare_methods, corrected, tested
from kdbench.analysis.rows import Row
from kdbench.analysis.summary import Summary

EXCESS = "agreement_excess"
INDEPENDENT = "the independent teacher"


@dataclass(frozen=True)
class Transfer:
    """What the independent teacher says of one row.

    ``excess`` is the agreement with the own teacher minus that with the independent one. ``beyond`` is this
    excess minus that of ``scratch``, paired by seed; None for scratch itself. Scratch has learned from
    neither, so its excess is what the two teachers themselves make, the one being the better, for example.
    """

    excess: Comparison
    beyond: Comparison | None


def transfers(summary: Summary) -> list[Transfer]:
    """Return what the independent teacher says of every row of a student; nothing in a run without one.

    Rows with a random teacher are left out: agreement is not what they are there for.
    Each of the two families of tests has Holm's correction of its own.
    """
    if EXCESS not in summary.columns:
        return []
    direction = summary.columns[EXCESS].direction
    beyond = {comparison.key: comparison for comparison in compare_methods(summary, EXCESS)}
    taught = [row for row in summary.students if row.method not in summary.repeats]
    excesses = corrected([_excess(row) for row in taught], direction)
    return [Transfer(excess, beyond.get(excess.key)) for excess in excesses]


def _excess(row: Row) -> Comparison:
    assert row.student is not None and row.method is not None
    differences = np.array(list(row.values[EXCESS].values()))
    n = len(differences)
    result = Comparison(row.teacher, row.student, row.method, INDEPENDENT, "agreement", n)
    if not n:
        return replace(result, reason="; ".join(row.reasons[EXCESS]))
    result = replace(result, difference=float(differences.mean()))
    if n == 1:
        return replace(result, reason="one seed: a test needs at least two")
    return tested(result, differences, scale=1.0)


def against_random_teachers(summary: Summary, metric: str | None = None) -> list[Comparison]:
    """Return each method against itself with a random teacher, paired by seed, with Holm's correction."""
    metric = metric or summary.headline
    comparisons = [
        replace(comparison, p_holm=None, verdict=None)
        for control, method in summary.repeats.items()
        for comparison in compare_methods(summary, metric, control)
        if comparison.method == method
    ]
    return corrected(comparisons, summary.columns[metric].direction)
