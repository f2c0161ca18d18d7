"""A run in rows: every metric of a (teacher, student, method), over its seeds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from kdbench.analysis.history import read_histories
from kdbench.analysis.intervals import Interval, no_value, t_interval
from kdbench.analysis.outcomes import Outcomes
from kdbench.bounds import UNCOUNTED, Bound, bound_of
from kdbench.column import Column, unknown_column
from kdbench.store import Record, RunDirectory, earlier_note

Role = Literal["teacher", "student"]


@dataclass(frozen=True)
class Failure:
    """A record that has no metrics: what it was, and why."""

    role: Role
    status: str
    teacher: str
    student: str | None
    method: str | None
    seed: int
    reason: str


@dataclass(frozen=True)
class Row:
    """One (teacher, student, method) over its seeds; student and method are None for a teacher itself.

    ``values`` holds column -> seed -> number, ``reasons`` column -> why numbers are missing, ``recall`` the
    mean recall of each class over the seeds, and ``ids`` the record of each finished seed.
    """

    role: Role
    teacher: str
    student: str | None
    method: str | None
    seeds: tuple[int, ...]
    failed: int
    metrics: Mapping[str, Interval]
    values: Mapping[str, Mapping[int, float]]
    reasons: Mapping[str, tuple[str, ...]]
    recall: tuple[float | None, ...]
    ids: Mapping[int, str]

    @property
    def model(self) -> str:
        """The label of the model that the row is about."""
        return self.student or self.teacher

    def mean(self, column: str) -> float | None:
        """Return the mean of a column over the seeds, or None."""
        return self.metrics[column].mean if column in self.metrics else None

    def bound(self, column: str) -> Bound | None:
        """Return which bound the mean of a column is; None for a fact."""
        return bound_of(column, self.mean(UNCOUNTED))

    def fact(self, column: str) -> float | None:
        """Return the mean of a cost, or None where it is missing, a bound, or 0, which no other can beat."""
        return None if self.bound(column) else self.mean(column) or None


@dataclass(frozen=True)
class Summary:
    """A run in rows, with what a reader must know besides: failures, missing cells, why numbers are null.

    ``run_methods`` (repeats with a random teacher last) and ``run_students`` are the labels of the whole run
    in the order of its plan, also in the summary of a part of it: by them a method and a student look the
    same wherever they are drawn.
    """

    run: RunDirectory
    manifest: Mapping[str, Any]
    columns: Mapping[str, Column]
    records: tuple[Record, ...]
    teachers: tuple[Row, ...]
    students: tuple[Row, ...]
    failures: tuple[Failure, ...]
    footnotes: Mapping[str, tuple[str, ...]]
    unfinished: int
    run_methods: tuple[str, ...]
    run_students: tuple[str, ...]

    @property
    def rows(self) -> tuple[Row, ...]:
        """All rows: the teachers first, then the students in the order of the plan."""
        return self.teachers + self.students

    @property
    def measured(self) -> tuple[Row, ...]:
        """The rows of students that have at least one finished seed."""
        return tuple(row for row in self.students if row.seeds)

    @property
    def teacher_names(self) -> tuple[str, ...]:
        """The labels of the teachers, in order."""
        return _distinct(row.teacher for row in self.rows)

    @property
    def student_names(self) -> tuple[str, ...]:
        """The labels of the students, in the order of the plan."""
        return _distinct(row.student for row in self.students if row.student is not None)

    @property
    def methods(self) -> tuple[str, ...]:
        """The labels of the methods in the order of the plan, the control first."""
        names = _distinct(row.method for row in self.students if row.method is not None)
        return tuple(sorted(names, key=lambda name: name != "scratch"))

    @property
    def repeats(self) -> dict[str, str]:
        """The methods that repeat another with a random teacher, each with the method that it repeats."""
        return {
            record.method: record.control_of for record in self.records if record.method and record.control_of
        }

    def without_repeats(self) -> Summary:
        """Return the summary without the rows that repeat a method with a random teacher."""
        return replace(self, students=tuple(row for row in self.students if row.method not in self.repeats))

    def repeats_alone(self) -> Summary:
        """Return the summary with no other rows than those that repeat a method with a random teacher."""
        alone = tuple(row for row in self.students if row.method in self.repeats)
        return replace(self, teachers=(), students=alone)

    @property
    def headline(self) -> str:
        """The metric that the run is judged by where no other is named; earlier versions knew one only."""
        return str(self.manifest.get("headline", "top1"))

    @property
    def headline_column(self) -> Column:
        """The column of the headline; raises UserError where the run has none of that name."""
        if self.headline not in self.columns:
            raise unknown_column(self.headline, self.columns)
        return self.columns[self.headline]

    def headline_of(self, head: str) -> str | None:
        """Return the headline metric of a further head: that of the run, or its first of the task family."""
        own = [column for column in self.columns.values() if column.head == head and column.epoch == "last"]
        names = [column.name for column in own if column.quantity == self.headline]
        return next(iter([*names, *(column.name for column in own if column.family == "task")]), None)

    @property
    def test_size(self) -> int:
        """The number of examples in the test split."""
        return int(self.manifest["sizes"]["test"])

    @property
    def seed_counts(self) -> tuple[int, ...]:
        """The numbers of seeds that the students' rows rest on, sorted and without repeats."""
        return tuple(sorted({len(row.seeds) for row in self.measured}))

    @cached_property
    def histories(self) -> pd.DataFrame:
        """The learning curves of all finished records; read at the first use."""
        return read_histories(self.run, (record for record in self.records if record.status == "ok"))

    @cached_property
    def outcomes(self) -> Outcomes:
        """Who was right on which test example; read at the first use."""
        return Outcomes(self.run, self.records)

    @cached_property
    def earlier(self) -> str | None:
        """What to know of finished cells of earlier plans of the suite, which no row shows."""
        return earlier_note(self.run.path)

    def has(self, column: str) -> bool:
        """Return whether any row has a number in this column."""
        return any(row.mean(column) is not None for row in self.rows)

    def stamped(self, name: str) -> tuple[str, ...]:
        """Return the different values of a stamp that all records bear, such as their device."""
        values = (record.provenance.get(name) for record in self.records)
        return _distinct(str(value) for value in values if value is not None)

    def by_teacher(self) -> Iterator[tuple[str, Summary]]:
        """Yield each teacher with the part of the summary that belongs to it."""
        for name in self.teacher_names:
            yield (
                name,
                replace(
                    self,
                    records=tuple(record for record in self.records if record.teacher == name),
                    teachers=tuple(row for row in self.teachers if row.teacher == name),
                    students=tuple(row for row in self.students if row.teacher == name),
                    failures=tuple(failure for failure in self.failures if failure.teacher == name),
                ),
            )

    def frame(self) -> pd.DataFrame:
        """Return the rows as a table: identity, then COLUMN, COLUMN_sd, COLUMN_low, COLUMN_high, COLUMN_n."""
        return pd.DataFrame([_flat(row, self.columns) for row in self.rows])


def summarise(run: RunDirectory | str | Path) -> Summary:
    """Return the summary of a run directory; raises UserError where there is none."""
    if not isinstance(run, RunDirectory):
        run = RunDirectory.open(run)
    manifest, columns, records = run.manifest(), run.columns(), tuple(run.records())
    groups: dict[tuple[str, str, str | None, str | None], list[Record]] = {}
    for record in records:
        key = (record.role, record.teacher, record.student, record.method)
        groups.setdefault(key, []).append(record)
    # A plan may go through its cells method by method: the rows of one student belong together.
    models = list(dict.fromkeys(key[:3] for key in groups))
    rows = [_row(groups[key], columns) for key in sorted(groups, key=lambda key: models.index(key[:3]))]
    return Summary(
        run=run,
        manifest=manifest,
        columns=columns,
        records=records,
        teachers=tuple(row for row in rows if row.role == "teacher"),
        students=tuple(row for row in rows if row.role == "student"),
        failures=tuple(_failure(record) for record in records if record.status != "ok"),
        footnotes={
            name: reasons
            for name in columns
            if (reasons := _distinct(reason for row in rows for reason in row.reasons.get(name, ())))
        },
        unfinished=len(manifest["teachers"]) + len(manifest["cells"]) - len(records),
        run_methods=_run_methods(records),
        run_students=_distinct(record.student for record in records if record.student is not None),
    )


def _run_methods(records: Iterable[Record]) -> tuple[str, ...]:
    cells = [record for record in records if record.method is not None]
    cells.sort(key=lambda cell: (bool(cell.control_of), cell.method != "scratch"))
    return _distinct(cell.method for cell in cells if cell.method)


def _row(members: list[Record], columns: Mapping[str, Column]) -> Row:
    first = members[0]
    done = [record for record in members if record.status == "ok"]
    nothing = f"no finished seed: {first.reason}"
    values: dict[str, dict[int, float]] = {}
    reasons: dict[str, tuple[str, ...]] = {}
    metrics: dict[str, Interval] = {}
    for name, column in columns.items():
        found = {r.seed: value for r in done if (value := r.metrics.get(name)) is not None}
        values[name] = dict(sorted(found.items()))
        missing = [record for record in done if record.seed not in found]
        why = [record.reasons.get(name, "not recorded") for record in missing]
        reasons[name] = _distinct(why) if done else (nothing,)
        metrics[name] = _interval(column, values[name], reasons[name])
    return Row(
        role="student" if first.role == "student" else "teacher",
        teacher=first.teacher,
        student=first.student,
        method=first.method,
        seeds=tuple(sorted(record.seed for record in done)),
        failed=len(members) - len(done),
        metrics=metrics,
        values=values,
        reasons={name: why for name, why in reasons.items() if why},
        recall=_mean_recall([record.tables.get("recall_per_class", []) for record in done]),
        ids={record.seed: record.id for record in done},
    )


def _interval(column: Column, values: Mapping[int, float], reasons: tuple[str, ...]) -> Interval:
    if not values:
        return no_value("; ".join(reasons) or "no value was recorded")
    interval = t_interval(values.values())
    if column.family == "cost" and interval.n > 1 and interval.sd == 0:
        # A model is measured once and its cost copied to every seed: a width of zero would claim precision.
        return replace(
            interval, low=None, high=None, reason="measured once per model, the same for every seed"
        )
    return interval


def _mean_recall(tables: list[list[float | None]]) -> tuple[float | None, ...]:
    columns = zip(*(table for table in tables if table), strict=True)
    known = [[value for value in column if value is not None] for column in columns]
    return tuple(sum(values) / len(values) if values else None for values in known)


def _failure(record: Record) -> Failure:
    keys = ("role", "status", "teacher", "student", "method", "seed")
    return Failure(**{key: getattr(record, key) for key in keys}, reason=record.outcome)


def _flat(row: Row, columns: Mapping[str, Column]) -> dict[str, Any]:
    flat: dict[str, Any] = {
        "role": row.role,
        "teacher": row.teacher,
        "student": row.student,
        "method": row.method,
        "n": len(row.seeds),
        "failed": row.failed,
    }
    for name in columns:
        interval = row.metrics[name]
        flat[name] = interval.mean
        flat.update({f"{name}_{key}": getattr(interval, key) for key in ("sd", "low", "high", "n")})
    return flat


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
