"""The figures."""

from __future__ import annotations

from collections.abc import Iterator

from kdbench.analysis.summary import Summary
from kdbench.report.blocks import Block, Plates, Title
from kdbench.report.registry import section


@section("figures", order=410)
def figures(summary: Summary) -> Iterator[Block]:
    """Leave the place of the figures, which are drawn before."""
    yield Title("Figures")
    yield Plates()
