"""Measured beside what papers report."""

from __future__ import annotations

from collections.abc import Iterator

from kdbench.analysis.published import find_published
from kdbench.analysis.summary import Summary
from kdbench.report.blocks import Block, File, Paragraphs, Title
from kdbench.report.published import cautions, published_table
from kdbench.report.registry import section


@section("published", order=210, files=("published",))
def published(summary: Summary) -> Iterator[Block]:
    """Give the rows that a paper reports too, where there are any."""
    figures = find_published(summary)
    table = published_table(summary, figures)
    if table is not None:
        yield File("published", table)
        yield Title(table.title)
        yield Paragraphs(tuple(cautions(figures)), strong=True)
        yield table
