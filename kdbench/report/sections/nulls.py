"""Why numbers are missing."""

from __future__ import annotations

from collections.abc import Iterator

from kdbench.analysis.summary import Summary
from kdbench.report.blocks import Block, Facts, Title
from kdbench.report.registry import section
from kdbench.report.sections.exemplars import exemplar_claims


@section("nulls", order=430)
def nulls(summary: Summary) -> Iterator[Block]:
    """Give each reason once, with what it holds for; failures are told elsewhere."""
    columns: dict[str, dict[str, None]] = {}
    for row in summary.rows:
        for name, reasons in row.reasons.items() if row.seeds else ():
            for reason in reasons:
                columns.setdefault(reason, {})[name] = None
    _, without_exemplars = exemplar_claims(summary)
    pairs = (*((reason, ", ".join(names)) for reason, names in columns.items()), *without_exemplars)
    if pairs:
        yield Title("Why numbers are missing")
        yield Facts(pairs, reasons=True)
