"""In short: what is best, at what cost, and what is shown."""

from __future__ import annotations

from collections.abc import Iterator

from kdbench.analysis.summary import Summary
from kdbench.report.answer import answer
from kdbench.report.blocks import Answer, Block
from kdbench.report.registry import section


@section("answer", order=20)
def in_short(summary: Summary) -> Iterator[Block]:
    """Give the sentences that a reader of nothing else should have read."""
    yield Answer(tuple(answer(summary)))
