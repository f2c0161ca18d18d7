"""A run in rows: every metric of a (teacher, student, method), over its seeds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from kdbench.analysis.history import read_histories
from kdbench.analysis.outcomes import Outcomes
from kdbench.analysis.rows import Failure, Row, distinct, failure_of, flattened, row_of
from kdbench.column import Column, unknown_column
from kdbench.store import Record, RunDirectory, earlier_note


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
        return distinct(row.teacher for row in self.rows)

    @property
    def student_names(self) -> tuple[str, ...]:
        """The labels of the students, in the order of the plan."""
        return distinct(row.student for row in self.students if row.student is not None)

    @property
    def methods(self) -> tuple[str, ...]:
        """The labels of the methods in the order of the plan, the control first."""
        names = distinct(row.method for row in self.students if row.method is not None)
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
        return distinct(str(value) for value in values if value is not None)

    def by_teacher(self) -> Iterator[tuple[str, Summary]]:
        """Yield each teacher with the part of the summary that belongs to it."""
        parts = {key: getattr(self, key) for key in ("records", "teachers", "students", "failures")}
        for name in self.teacher_names:
            own: dict[str, Any] = {
                key: tuple(entry for entry in entries if entry.teacher == name)
                for key, entries in parts.items()
            }
            yield name, replace(self, **own)

    def frame(self) -> pd.DataFrame:
        """Return the rows as a table: identity, then COLUMN, COLUMN_sd, COLUMN_low, COLUMN_high, COLUMN_n."""
        return pd.DataFrame([flattened(row, self.columns) for row in self.rows])


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
    rows = [row_of(groups[key], columns) for key in sorted(groups, key=lambda key: models.index(key[:3]))]
    return Summary(
        run=run,
        manifest=manifest,
        columns=columns,
        records=records,
        teachers=tuple(row for row in rows if row.role == "teacher"),
        students=tuple(row for row in rows if row.role == "student"),
        failures=tuple(failure_of(record) for record in records if record.status != "ok"),
        footnotes={
            name: reasons
            for name in columns
            if (reasons := distinct(reason for row in rows for reason in row.reasons.get(name, ())))
        },
        unfinished=len(manifest["teachers"]) + len(manifest["cells"]) - len(records),
        run_methods=_run_methods(records),
        run_students=distinct(record.student for record in records if record.student is not None),
    )


def _run_methods(records: Iterable[Record]) -> tuple[str, ...]:
    cells = [record for record in records if record.method is not None]
    cells.sort(key=lambda cell: (bool(cell.control_of), cell.method != "scratch"))
    return distinct(cell.method for cell in cells if cell.method)
