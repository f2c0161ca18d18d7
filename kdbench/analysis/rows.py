"""The rows of a run: every metric of a (teacher, student, method) over its seeds, from their records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from kdbench.analysis.intervals import Interval, no_value, t_interval
from kdbench.bounds import UNCOUNTED, Bound, bound_of
from kdbench.column import Column
from kdbench.store import Record
from kdbench.store.record import Role

Key = tuple[str, str | None, str | None]


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
    def key(self) -> Key:
        """The labels by which rows and what is said of them are matched."""
        return self.teacher, self.student, self.method

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


def row_of(members: list[Record], columns: Mapping[str, Column]) -> Row:
    """Return the row of the records of one (teacher, student, method)."""
    first = members[0]
    done = [record for record in members if record.status == "ok"]
    nothing = f"no finished seed: {first.reason}"
    values: dict[str, dict[int, float]] = {}
    reasons: dict[str, tuple[str, ...]] = {}
    metrics: dict[str, Interval] = {}
    for name, column in columns.items():
        by_seed = {r.seed: value for r in done if (value := r.metrics.get(name)) is not None}
        values[name] = dict(sorted(by_seed.items()))
        missing = [record for record in done if record.seed not in by_seed]
        why = [record.reasons.get(name, "not recorded") for record in missing]
        reasons[name] = distinct(why) if done else (nothing,)
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
    recalls = [[value for value in column if value is not None] for column in columns]
    return tuple(sum(values) / len(values) if values else None for values in recalls)


def failure_of(record: Record) -> Failure:
    """Return what a record without metrics was."""
    keys = ("role", "status", "teacher", "student", "method", "seed")
    return Failure(**{key: getattr(record, key) for key in keys}, reason=record.outcome)


def flattened(row: Row, columns: Mapping[str, Column]) -> dict[str, Any]:
    """Return a row as a line of ``Summary.frame``."""
    flat: dict[str, Any] = {key: getattr(row, key) for key in ("role", "teacher", "student", "method")}
    flat |= {"n": len(row.seeds), "failed": row.failed}
    for name in columns:
        interval = row.metrics[name]
        flat[name] = interval.mean
        flat.update({f"{name}_{key}": getattr(interval, key) for key in ("sd", "low", "high", "n")})
    return flat


def distinct(names: Iterable[str]) -> tuple[str, ...]:
    """Return names without repeats, in the order in which they first come."""
    return tuple(dict.fromkeys(names))
