"""Methods ranked over the students."""

from __future__ import annotations

from collections.abc import Iterator

from kdbench.analysis.standings import standings
from kdbench.analysis.summary import Summary
from kdbench.report.blocks import Block, File, Title
from kdbench.report.ranking import standings_table
from kdbench.report.registry import section


@section("ranks", order=170, files=("ranks",))
def ranks(summary: Summary) -> Iterator[Block]:
    """Give the methods by mean rank, where there are enough methods and students to test them."""
    result = standings([summary])
    if not result.ranking.reason:
        table = standings_table(result, summary.columns[result.metric])
        yield File("ranks", table)
        yield Title(table.title)
        yield table
