"""What the suite says of itself."""

from __future__ import annotations

from collections.abc import Iterator

from kdbench.analysis.summary import Summary
from kdbench.report.blocks import Block, Paragraphs
from kdbench.report.registry import section


@section("description", order=10)
def description(summary: Summary) -> Iterator[Block]:
    """Give the suite's description, where it has one."""
    text = summary.manifest.get("description", "").strip()
    if text:
        yield Paragraphs((text,))
