"""A table in the terminal, fitted to its width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import rich.table
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from kdbench.printable import printable
from kdbench.report.abbreviation import shorten_labels
from kdbench.report.table import Cell, Heading, Table

LABELS = ("teacher", "student", "method")
# Widths that labels are shortened to, one after the other, until the important columns fit.
LABEL_WIDTHS = (40, 32, 26, 22, 18, 14)
IMPORTANT = 2
SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
PADDING = 2
STYLES = {"▲": "green", "▼": "red"}


def print_table(table: Table, console: Console) -> None:
    """Print a table with its title above, and its legend, its notes and what was left out below."""
    fitted, hidden = for_terminal(table, console.width)
    console.print(Text(printable(table.title), style="bold"))
    console.print()
    console.print(fitted)
    console.print()
    for line in table.legend:
        console.print(Text(printable(line), style="dim"))
    for number, note in enumerate(table.notes, start=1):
        console.print(Text(f"{str(number).translate(SUPERSCRIPTS)} {printable(note)}", style="dim"))
    if hidden:
        names = ", ".join(heading.title for heading in hidden)
        console.print(Text(f"Left out at {console.width} columns: {names}.", style="dim"))


def for_terminal(table: Table, width: int) -> tuple[rich.table.Table, tuple[Heading, ...]]:
    """Return the table fitted to a terminal, and the headings that had to be left out.

    Labels are shortened in the middle first (never so far that two become one), then the least important
    columns go.
    """
    for limit in LABEL_WIDTHS:
        shortened = _shorten(table, limit)
        widths = _widths(shortened)
        needed = [
            w for w, heading in zip(widths, table.headings, strict=True) if heading.importance <= IMPORTANT
        ]
        if sum(needed) + PADDING * len(needed) <= width:
            break
    kept = _fitting(shortened.headings, widths, width)
    return _rich(shortened, kept), tuple(
        heading for index, heading in enumerate(table.headings) if index not in kept
    )


def _fitting(headings: Sequence[Heading], widths: Sequence[int], width: int) -> set[int]:
    kept: set[int] = set()
    used = 0
    for index in sorted(range(len(headings)), key=lambda index: headings[index].importance):
        needed = widths[index] + PADDING
        if headings[index].importance == 0 or used + needed <= width:
            kept.add(index)
            used += needed
    return kept


def _rich(table: Table, kept: set[int]) -> rich.table.Table:
    # One space of padding and the box's one between columns: the PADDING that widths are reckoned with.
    result = rich.table.Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    for index, heading in enumerate(table.headings):
        if index in kept:
            side: Literal["right", "left"] = "right" if heading.numeric else "left"
            result.add_column(Text(_stacked(heading)), justify=side, no_wrap=True)
    previous: tuple[str, ...] | None = None
    labels = sum(heading.key in LABELS for heading in table.headings) - 1
    for line in table.lines:
        group = tuple(cell.text for cell in line.cells[:labels])
        texts = [_rich_cell(cell) for cell in line.cells]
        if group == previous:
            texts[:labels] = [Text("")] * labels
        elif previous is not None:
            result.add_row()
        result.add_row(
            *[text for index, text in enumerate(texts) if index in kept],
            style="bold" if line.teacher else None,
        )
        previous = group
    return result


def _rich_cell(cell: Cell) -> Text:
    style = next((style for mark, style in STYLES.items() if mark in cell.text), "")
    return Text(_terminal_text(cell), style=style)


def _terminal_text(cell: Cell) -> str:
    return printable(cell.text) + (str(cell.note).translate(SUPERSCRIPTS) if cell.note else "")


def _stacked(heading: Heading) -> str:
    first = " ".join(part for part in (heading.title, heading.arrow) if part)
    return f"{first}\n({heading.unit})" if heading.unit else first


def _widths(table: Table) -> list[int]:
    widths = [max(map(cell_len, _stacked(heading).split("\n"))) for heading in table.headings]
    for line in table.lines:
        widths = [max(w, cell_len(_terminal_text(c))) for w, c in zip(widths, line.cells, strict=True)]
    return widths


def _shorten(table: Table, limit: int) -> Table:
    lines = [list(line.cells) for line in table.lines]
    for index, heading in enumerate(table.headings):
        if heading.key in LABELS:
            short = shorten_labels([cells[index].text for cells in lines], limit)
            for cells, text in zip(lines, short, strict=True):
                cells[index] = replace(cells[index], text=text)
    return replace(
        table,
        lines=tuple(replace(line, cells=tuple(c)) for line, c in zip(table.lines, lines, strict=True)),
    )
