"""Labels too long for their place, cut so that no two become one; tables and figures share it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from kdbench.analysis.summary import Summary
from kdbench.printable import printable

# Characters of a label in a figure.
DRAWN = 60


def shorten_labels(labels: Sequence[str], limit: int) -> list[str]:
    """Return labels cut in the middle to ``limit`` characters, or to more where two would become one."""
    while True:
        head = (limit - 1) // 2
        tail = limit - 1 - head
        short = [t if len(t) <= limit else f"{t[:head]}…{t[-tail:]}" for t in labels]
        if len(set(short)) == len(set(labels)):
            return short
        limit *= 2


def for_drawing(summary: Summary, limit: int = DRAWN) -> Summary:
    """Return a summary whose words a figure can show: labels that it has room for, on one line."""
    kinds = ("teacher", "student", "method")
    labels = list({getattr(row, kind): None for row in summary.rows for kind in kinds if getattr(row, kind)})
    plain = list(map(printable, labels))
    if len(set(plain)) < len(labels):
        plain = labels
    short: dict[str | None, str] = dict(zip(labels, shorten_labels(plain, limit), strict=True))

    def changed(part: Any) -> Any:
        if isinstance(part, tuple):
            return tuple(map(changed, part))
        if isinstance(part, str):
            return short.get(part, part)
        if isinstance(part, Mapping):
            return {**part, **{kind: short.get(part[kind], part[kind]) for kind in kinds}}
        return replace(part, **{kind: short.get(getattr(part, kind), getattr(part, kind)) for kind in kinds})

    parts = {field.name: getattr(summary, field.name) for field in fields(summary)}
    tuples = {name: changed(part) for name, part in parts.items() if isinstance(part, tuple)}
    classes = [printable(str(name)) for name in summary.manifest["classes"]]
    words = {"classes": classes, "dataset": printable(summary.manifest["dataset"])}
    return replace(summary, **tuples, manifest={**summary.manifest, **words})
