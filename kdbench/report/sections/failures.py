"""What failed and what was skipped."""

from __future__ import annotations

from collections.abc import Iterator

from kdbench.analysis.rows import Failure
from kdbench.analysis.summary import Summary
from kdbench.report import numerals
from kdbench.report.blocks import Block, Title
from kdbench.report.registry import section
from kdbench.report.table import Cell, Heading, Line, Table


@section("failures", order=420)
def failures(summary: Summary) -> Iterator[Block]:
    """Give every record that has no metrics, with the reason."""
    if not summary.failures:
        return
    title = "Failed and skipped cells"
    words = ("status", "teacher", "student", "method", "seed", "reason")
    headings = tuple(Heading(word, word, numeric=word == "seed") for word in words)
    yield Title(title)
    yield Table(title, headings, tuple(map(_line, summary.failures)))


def _line(failure: Failure) -> Line:
    names = (failure.teacher, failure.student or numerals.DASH, failure.method or numerals.DASH)
    texts = (failure.status, *names, str(failure.seed), failure.reason)
    return Line(tuple(map(Cell, texts)))
