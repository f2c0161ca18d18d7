"""Every student against its teacher: what a small network gains and loses by one metric."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kdbench.analysis.comparison import Comparison, corrected, tested
from kdbench.analysis.rows import Row
from kdbench.analysis.summary import Summary


def against_teachers(summary: Summary, metric: str | None = None) -> list[Comparison]:
    """Return each student's row minus its teacher, in the order of the rows; random teachers are left out.

    The teacher is one trained network, whose figure is taken as it is: the t test and the interval are over
    the student's seeds, with Holm's correction over all rows, and say nothing of another training of the
    teacher.
    """
    metric = metric or summary.headline
    teachers = {row.teacher: row for row in summary.teachers}
    rows = summary.without_repeats().students
    comparisons = [_against(row, teachers.get(row.teacher), metric) for row in rows]
    return corrected(comparisons, summary.columns[metric].direction)


def against_teacher(summary: Summary, row: Row, metric: str) -> Comparison:
    """Return one student's row minus its teacher, as `against_teachers`, without a correction for others."""
    teacher = next((other for other in summary.teachers if other.teacher == row.teacher), None)
    return corrected([_against(row, teacher, metric)], summary.columns[metric].direction)[0]


def _against(row: Row, teacher: Row | None, metric: str) -> Comparison:
    assert row.student is not None and row.method is not None
    values = np.array(list(row.values[metric].values()))
    result = Comparison(row.teacher, row.student, row.method, row.teacher, metric, len(values))
    reference = None if teacher is None else teacher.mean(metric)
    if reference is None:
        return replace(result, reason=f"teacher {row.teacher} has no {metric}")
    if not len(values):
        return replace(result, reason="the method has no value")
    differences = values - reference
    result = replace(result, difference=float(differences.mean()))
    if teacher is not None and len(teacher.seeds) > 1:
        return replace(result, reason=f"{row.teacher} was trained with {len(teacher.seeds)} seeds of its own")
    if len(values) == 1:
        return replace(result, reason="one seed: a test needs at least two")
    return tested(result, differences, float(np.abs(values).max()))
