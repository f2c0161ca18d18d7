"""Every method against the control."""

from __future__ import annotations

from collections.abc import Iterator

from kdbench.analysis.summary import Summary
from kdbench.report.blocks import Block, File, Title
from kdbench.report.claims import difference_table
from kdbench.report.registry import section


@section("differences", order=130, files=("differences",))
def differences(summary: Summary) -> Iterator[Block]:
    """Give the paired differences with their tests."""
    table = difference_table(summary)
    yield File("differences", table)
    if table.lines:
        yield Title(table.title)
        yield table
