"""The results of further heads."""

from __future__ import annotations

from collections.abc import Iterator

from kdbench.analysis.summary import Summary
from kdbench.report.blocks import Block, File, Title
from kdbench.report.columns import split
from kdbench.report.headline import main_table
from kdbench.report.registry import section


@section("heads", order=150)
def heads(summary: Summary) -> Iterator[Block]:
    """Give for each further column of labels the table of what is judged, and that of what is left."""
    for head in summary.manifest.get("heads", {}):
        table = main_table(summary, summary.headline_of(head))
        yield File(f"results_{head}", table)
        for part in split(table, f"Further measures of quality: {head}"):
            if part is not None:
                yield Title(part.title)
                yield part
