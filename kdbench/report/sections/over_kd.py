"""Every method against plain distillation."""

from __future__ import annotations

from collections.abc import Iterator

from kdbench.analysis.comparison import CONTROL
from kdbench.analysis.standings import REFERENCE
from kdbench.analysis.summary import Summary
from kdbench.report.blocks import Block, File, Title
from kdbench.report.claims import difference_table
from kdbench.report.registry import section

FILE = "differences_from_kd"


@section("over_kd", order=160, files=(FILE,))
def over_kd(summary: Summary) -> Iterator[Block]:
    """Give the differences from plain distillation, where the run has it in one form beside others."""
    plain = {r.method for r in summary.records if r.method_name == REFERENCE and r.method}
    plain -= set(summary.repeats)
    others = set(summary.methods) - plain - set(summary.repeats) - {CONTROL}
    if len(plain) == 1 and others:
        table = difference_table(summary, baseline=plain.pop())
        yield File(FILE, table)
        yield Title(table.title)
        yield table
