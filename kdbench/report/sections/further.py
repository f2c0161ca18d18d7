"""Measures of quality that the headline table has no room for."""

from __future__ import annotations

from collections.abc import Iterator

from kdbench.analysis.summary import Summary
from kdbench.report.blocks import Block, Title
from kdbench.report.columns import split
from kdbench.report.headline import main_table
from kdbench.report.registry import section


@section("further", order=140)
def further(summary: Summary) -> Iterator[Block]:
    """Give the rest of the headline table."""
    _, rest = split(main_table(summary))
    if rest is not None:
        yield Title(rest.title)
        yield rest
