"""The interactive chart."""

from __future__ import annotations

from collections.abc import Iterator

from kdbench.analysis.summary import Summary
from kdbench.report import captions
from kdbench.report.blocks import Block, Chart, Title
from kdbench.report.registry import section


@section("explore", order=400, interactive=True)
def explore(summary: Summary) -> Iterator[Block]:
    """Give the headline metric against a cost that the reader chooses."""
    from kdbench.report.scatter import scatter_json  # half a second, which a lean page does without

    json = scatter_json(summary)
    if json is not None:
        noun = captions.noun(summary.headline_column)
        yield Title(f"{noun[0].upper()}{noun[1:]} against a cost of your choice")
        yield Chart(
            json,
            f"Points are means over the seeds, whiskers 95 % t intervals; the {noun} axis need not begin at "
            "0. Click a method in the legend to hide it.",
        )
