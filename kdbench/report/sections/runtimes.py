"""Latency in eager mode and in other runtimes."""

from __future__ import annotations

from collections.abc import Iterator

from kdbench.analysis.summary import Summary
from kdbench.report.blocks import Block, File, Title
from kdbench.report.registry import section
from kdbench.report.runtimes import runtime_table


@section("runtimes", order=180, files=("runtimes",))
def runtimes(summary: Summary) -> Iterator[Block]:
    """Give the latencies by runtime, where more than eager mode was timed."""
    table = runtime_table(summary)
    if table is not None:
        yield File("runtimes", table)
        yield Title(table.title)
        yield table
