"""Which columns of the headline table a page shows side by side: it has not the room for all of them."""

from __future__ import annotations

from kdbench.column import Column
from kdbench.report.table import Heading, Table

# Names that a heading has a better word for.
SHORT = {"top1": "top-1"}
LABELS = ("teacher", "student", "method")
# With accuracy and cost: how far a student agrees with its teacher is what distillation is about.
BESIDE = ("agreement",)


def short_title(column: Column) -> str:
    """Return what a narrow heading calls a column: its name, unless there is a better word."""
    return SHORT.get(column.name, column.name)


def is_cost(heading: Heading) -> bool:
    """Return whether a column of the headline table is a cost."""
    return heading.column is not None and heading.column.family == "cost"


def split(table: Table, title: str = "Further measures of quality") -> tuple[Table, Table | None]:
    """Return the headline table as two: what is judged beside its costs, and what else is known of quality.

    The second one, with this title, is None where there is nothing else.
    """
    headings = table.headings
    end = max(
        (place for place, heading in enumerate(headings) if is_cost(heading)), default=len(headings) - 1
    )
    first = [
        heading.key
        for place, heading in enumerate(headings)
        if place <= end or (heading.column and heading.column.quantity in BESIDE)
    ]
    rest = [heading.key for heading in headings if heading.key not in first]
    headline = table.only(first, legend=table.legend)
    labels = [heading.key for heading in headings if heading.key in LABELS]
    return headline, table.only([*labels, *rest], title) if rest else None
