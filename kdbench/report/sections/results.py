"""The headline table: what is judged beside its costs."""

from __future__ import annotations

from collections.abc import Iterator

from kdbench.analysis.summary import Summary
from kdbench.report.blocks import Block, File, Hint, Title
from kdbench.report.columns import split
from kdbench.report.headline import main_table
from kdbench.report.registry import section


@section("results", order=100, files=("results",))
def results(summary: Summary) -> Iterator[Block]:
    """Give the columns that a page has the room for; the file has all of them."""
    table = main_table(summary)
    yield File("results", table)
    yield Title("Results")
    yield Hint("Click a heading to sort. Hover over a number for its interval.")
    yield split(table)[0]
