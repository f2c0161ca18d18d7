"""The raw numbers of a table, separated by commas."""

from __future__ import annotations

import csv
import io

from kdbench.printable import printable
from kdbench.report.table import Table


def as_csv(table: Table) -> str:
    """Return the raw numbers as CSV; what is null is an empty field."""
    rows = table.as_rows()
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {name: printable(value) if isinstance(value, str) else value for name, value in row.items()}
        for row in rows
    )
    return text.getvalue()
