"""Accuracy under corruption by severity: what the records' tables say of a teacher and its students."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from kdbench.analysis.intervals import Interval, t_interval
from kdbench.analysis.summary import Summary

TABLE = "corruptions"


@dataclass(frozen=True)
class SeverityCurve:
    """The accuracy of one (student, method), or of a teacher, by severity; 0 is the clean images.

    ``accuracy`` holds, for each severity, the mean over corruptions with its interval over the seeds.
    """

    student: str | None
    method: str | None
    accuracy: Mapping[int, Interval]


def severity_curves(summary: Summary) -> list[SeverityCurve]:
    """Return a curve for every row of a summary that was shown corrupted images, teachers first."""
    groups: dict[tuple[str | None, str | None], list[Mapping[str, Any]]] = {}
    for record in summary.records:
        table = record.tables.get(TABLE)
        if record.status == "ok" and table:
            groups.setdefault((record.student, record.method), []).append(table)
    curves = [
        SeverityCurve(student, method, _by_severity(tables)) for (student, method), tables in groups.items()
    ]
    return sorted(curves, key=lambda curve: curve.student is not None)


def corrupted_examples(summary: Summary) -> tuple[int, ...]:
    """Return how many test images were corrupted, sorted and without repeats: one number, as a rule."""
    tables = (record.tables.get(TABLE) for record in summary.records)
    return tuple(sorted({table["examples"] for table in tables if table}))


def corruption_names(summary: Summary) -> tuple[str, ...]:
    """Return the corruptions that any record was shown, in their order."""
    tables = (record.tables.get(TABLE) for record in summary.records)
    return tuple(dict.fromkeys(name for table in tables if table for name in table["accuracy"]))


def _by_severity(tables: Sequence[Mapping[str, Any]]) -> dict[int, Interval]:
    points: dict[int, list[float]] = {}
    for table in tables:
        for severity, accuracy in _means(table):
            points.setdefault(severity, []).append(accuracy)
    return {severity: t_interval(values) for severity, values in sorted(points.items())}


def _means(table: Mapping[str, Any]) -> Iterator[tuple[int, float]]:
    """Yield each severity of one record with its mean over corruptions, unless a value of it is missing."""
    if table["clean"]["accuracy"] is not None:
        yield 0, table["clean"]["accuracy"]
    for place, severity in enumerate(table["severities"]):
        values = [by_severity[place] for by_severity in table["accuracy"].values()]
        if None not in values:
            yield severity, fmean(values)
