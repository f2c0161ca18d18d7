"""What the controls say: transfer, or regularisation."""

from __future__ import annotations

from collections.abc import Iterator

from kdbench.analysis.summary import Summary
from kdbench.report.blocks import Block, Points, Title
from kdbench.report.fidelity import control_claims, control_table
from kdbench.report.registry import section


@section("controls", order=190)
def controls(summary: Summary) -> Iterator[Block]:
    """Give the controls of a run and a sentence for each claim, where it has controls."""
    claims, table = control_claims(summary), control_table(summary)
    if claims:
        yield Title("Controls")
        if table is not None:
            yield table
        yield Points(tuple(claims))
