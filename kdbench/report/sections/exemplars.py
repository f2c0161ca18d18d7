"""Examples that change for good."""

from __future__ import annotations

from collections.abc import Iterator

from kdbench.analysis.summary import Summary
from kdbench.report.blocks import Block, Points, Title
from kdbench.report.exemplars import exemplar_claims
from kdbench.report.registry import section


@section("exemplars", order=200)
def exemplars(summary: Summary) -> Iterator[Block]:
    """Give the share of examples that compression changes, where there are populations of models."""
    claims, _ = exemplar_claims(summary)
    if claims:
        yield Title("Examples that change for good")
        yield Points(tuple(claims))
