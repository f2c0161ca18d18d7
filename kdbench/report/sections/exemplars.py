"""Examples that compression changes for good (PIE): what a report says of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kdbench.analysis.pie import Pie, RunPie, pies_of_run
from kdbench.analysis.summary import Summary
from kdbench.report import numerals
from kdbench.report.blocks import Block, Points, Title
from kdbench.report.registry import section


@section("exemplars", order=200)
def exemplars(summary: Summary) -> Iterator[Block]:
    """Give the share of examples that compression changes, where there are populations of models."""
    claims, _ = exemplar_claims(summary)
    if claims:
        yield Title("Examples that change for good")
        yield Points(tuple(claims))


def exemplar_claims(summary: Summary) -> tuple[list[str], list[tuple[str, str]]]:
    """Return a sentence for each student and method that PIE are defined for, and why others have none."""
    if "top1" not in summary.columns:
        return [], [("an example has several labels, not the one class that PIE are of", "PIE of every row")]
    entries = pies_of_run(summary.run)
    several = len({entry.teachers for entry in entries}) > 1
    claims = [_sentence(entry, entry.pie, summary.test_size, several) for entry in entries if entry.pie]
    if claims:
        claims.insert(
            0,
            "An example is compression identified (PIE) where the class that most trainings of the teacher "
            "predict is not the one that most students predict: chance of single trainings is left out.",
        )
    return claims, list(_absences(entries, several))


def _row(entry: RunPie, several: bool) -> str:
    """Return which row is meant, with its teachers where there are several populations of them."""
    return f"{entry.student} by {entry.method}" + (f" ({', '.join(entry.teachers)})" if several else "")


def _absences(entries: Sequence[RunPie], several: bool) -> Iterator[tuple[str, str]]:
    """Yield each reason once, with the rows that it holds for."""
    rows: dict[str, list[str]] = {}
    for entry in entries:
        if entry.reason:
            rows.setdefault(entry.reason, []).append(_row(entry, several))
    total = len(entries)
    for reason, names in rows.items():
        yield reason, f"PIE of {'every row' if len(names) == total else ', '.join(names)}"


def _sentence(entry: RunPie, pie: Pie, examples: int, several: bool) -> str:
    """Return one row's claim.

    For example ``mlp_64 by kd: 3.2 % of 599 test examples are PIE; right on them are 61.0 % (teachers) and
    40.1 % (students), on the others 95.1 % and 93.0 %, n = 3 teachers and 9 students``.
    """
    decimals = numerals.percent_decimals(examples)

    def share(value: float | None) -> str:
        return numerals.DASH if value is None else f"{numerals.percent(value, decimals)} %"

    head = f"{_row(entry, several)}: {share(pie.fraction)} of {examples:,} test examples are PIE"
    count = f"n = {len(entry.teachers)} teachers and {entry.students} students"
    if pie.teacher_on is None:
        return f"{head}, {count}"
    return (
        f"{head}; right on them are {share(pie.teacher_on)} (teachers) and {share(pie.student_on)} "
        f"(students), on the others {share(pie.teacher_off)} and {share(pie.student_off)}, {count}"
    )
