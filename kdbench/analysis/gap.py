"""How much of the gap between teacher and plainly trained student a method closes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from kdbench.analysis.comparison import CONTROL
from kdbench.analysis.intervals import Interval, no_value, sampling_half_width, t_interval
from kdbench.analysis.outcomes import SHARES
from kdbench.analysis.rows import Row
from kdbench.analysis.summary import Summary
from kdbench.column import Column


@dataclass(frozen=True)
class Gap:
    """The share of the gap that a method closes: 0 is the control, 1 the teacher; it may exceed both.

    ``recovered`` is its mean over the seeds with the interval, or why there is none; ``values`` are the
    shares by seed.
    """

    teacher: str
    student: str
    method: str
    recovered: Interval
    values: dict[int, float]


def gaps_recovered(summary: Summary) -> list[Gap]:
    """Return (a_method − a_scratch) / (a_teacher − a_scratch) of every method but the control.

    It is of the headline metric a. Each seed of a method is set against the control of the same student and
    seed. A quotient says nothing where its denominator could be chance: all seeds must have one beyond 95 %
    of what a test split of this size makes of two equal models, √(w_t² + w_s²) with the half-widths w of
    their Wilson intervals. (That takes the two as independent, which is on the safe side.) Otherwise the mean
    is None, with the reason, as it is of a metric that is no share of test examples.
    """
    controls = {(row.teacher, row.student): row for row in summary.students if row.method == CONTROL}
    column = summary.headline_column
    teachers = {row.teacher: row.mean(column.name) for row in summary.teachers}
    return [
        _gap(row, controls.get((row.teacher, row.student)), teachers.get(row.teacher), column, summary)
        for row in summary.students
        if row.method != CONTROL
    ]


def _gap(row: Row, control: Row | None, teacher: float | None, column: Column, summary: Summary) -> Gap:
    assert row.student is not None and row.method is not None
    values: dict[int, float] = {}
    reason = None
    if column.quantity not in SHARES:
        reason = f"{column.label} is no share of test examples"
    elif teacher is None:
        reason = f"teacher {row.teacher} has no {column.label}"
    elif control is None:
        reason = f"the run holds no {CONTROL} of {row.student}"
    else:
        ours, theirs = row.values[column.name], control.values[column.name]
        seeds = sorted(ours.keys() & theirs.keys())
        reason = _no_gap(teacher, {seed: theirs[seed] for seed in seeds}, summary.test_size)
        if reason is None:
            values = {seed: (ours[seed] - theirs[seed]) / (teacher - theirs[seed]) for seed in seeds}
    recovered = no_value(reason) if reason else t_interval(values.values())
    return Gap(row.teacher, row.student, row.method, recovered, values)


def _no_gap(teacher: float, controls: Mapping[int, float], examples: int) -> str | None:
    """Return why there is no gap to divide by, where there is none."""
    if not controls:
        return f"the method and {CONTROL} have no finished seed in common"
    for seed, control in controls.items():
        gap = teacher - control
        noise = math.hypot(*(sampling_half_width(top1, examples) for top1 in (teacher, control)))
        if gap <= noise:
            return (
                f"with seed {seed} the teacher is {100 * gap:+.2f} points from {CONTROL}, "
                f"within the ±{100 * noise:.2f} of {examples:,} test examples"
            )
    return None
