"""Which columns of the headline table a page shows side by side: it has not the room for all of them."""

from __future__ import annotations

from kdbench.analysis.costs import LATENCY
from kdbench.heads import plain
from kdbench.report.table import Table

LABELS = ("teacher", "student", "method")
COSTS = ("params", "macs", "size_bytes")
# With accuracy and cost: how far a student agrees with its teacher is what distillation is about.
BESIDE = ("agreement",)


def is_cost(key: str) -> bool:
    """Return whether a column of the headline table is a cost."""
    return key in COSTS or LATENCY.fullmatch(key) is not None or key.startswith("speedup_")


def split(table: Table, title: str = "Further measures of quality") -> tuple[Table, Table | None]:
    """Return the headline table as two: what is judged beside its costs, and what else is known of quality.

    The second one, with this title, is None where there is nothing else.
    """
    keys = [heading.key for heading in table.headings]
    end = max((place for place, key in enumerate(keys) if is_cost(key)), default=len(keys) - 1)
    first = [key for place, key in enumerate(keys) if place <= end or plain(key) in BESIDE]
    rest = [key for key in keys if key not in first]
    headline = table.only(first, legend=table.legend)
    labels = [key for key in keys if key in LABELS]
    return headline, table.only([*labels, *rest], title) if rest else None
