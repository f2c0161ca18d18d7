"""How to read the numbers, and what to beware of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kdbench.analysis.comparison import compare_methods
from kdbench.analysis.summary import Summary
from kdbench.report.blocks import Block, Points, Title
from kdbench.report.claims import how_to_read
from kdbench.report.registry import section


@section("reading", order=110)
def reading(summary: Summary) -> Iterator[Block]:
    """Give what a reader must know of the numbers, and what could not be made of the report."""
    yield Title("How to read this")
    texts = how_to_read(summary, compare_methods(summary))
    yield Points(tuple(texts), tuple(_warnings(summary)), faults=True)


def _warnings(summary: Summary) -> Iterator[str]:
    for name in ("data_checksum", "device", "precision", "git"):
        values = summary.stamped(name)
        if len(values) > 1:
            yield f"Records differ in {name.replace('_', ' ')}: {', '.join(values)}."
    machine = summary.manifest["machine"]
    stamps = [record.provenance.get("machine") for record in summary.records]
    other = sum(1 for stamp in stamps if stamp and _hardware(stamp) != _hardware(machine))
    if other:
        yield f"{other} of {len(stamps)} records come from another machine than the one that is listed."


def _hardware(machine: Mapping[str, Any]) -> tuple[Any, Any]:
    return machine.get("cpu"), machine.get("gpus") or []
