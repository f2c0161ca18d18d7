"""Tables as data: headings, cells, lines, and the notes that explain their empty places."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from kdbench.column import Column

MARKS = {
    "better": "▲",
    "worse": "▼",
    "higher": "▲",
    "lower": "▼",
    "no difference shown": "○",
    None: "",
}


@dataclass(frozen=True)
class Heading:
    """The head of a column; columns of higher ``importance`` numbers leave a narrow terminal first.

    ``column`` is the quantity of the results that it shows, where it shows one.
    """

    key: str
    title: str
    arrow: str = ""
    unit: str = ""
    importance: int = 0
    numeric: bool = True
    help: str = ""
    column: Column | None = None

    @property
    def text(self) -> str:
        """Title, direction arrow and unit on one line."""
        unit = f"({self.unit})" if self.unit else ""
        return " ".join(part for part in (self.title, self.arrow, unit) if part)


@dataclass(frozen=True)
class Cell:
    """What one place of a table says: text for people, raw values for machines, a note, a sorting key."""

    text: str
    raw: Mapping[str, Any] = field(default_factory=dict)
    note: int | None = None
    sort: float | str | None = None
    hint: str = ""


@dataclass(frozen=True)
class Line:
    """A row of a table; the rows of teachers are set apart."""

    cells: tuple[Cell, ...]
    teacher: bool = False


@dataclass(frozen=True)
class Table:
    """A table as data: ``legend`` explains its marks, ``notes`` (numbered from 1) its empty places."""

    kind: ClassVar = "table"
    title: str
    headings: tuple[Heading, ...]
    lines: tuple[Line, ...]
    legend: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def only(self, keys: Collection[str], title: str | None = None, legend: Sequence[str] = ()) -> Table:
        """Return the columns of these keys as a table of its own, with the notes that its cells refer to.

        Without a title it keeps that of the whole table.
        """
        kept = [index for index, heading in enumerate(self.headings) if heading.key in keys]
        notes = Notes()
        lines = [
            replace(line, cells=tuple(_renumbered(line.cells[index], self.notes, notes) for index in kept))
            for line in self.lines
        ]
        headings = tuple(self.headings[index] for index in kept)
        return Table(title or self.title, headings, tuple(lines), tuple(legend), notes.texts)

    def as_rows(self) -> list[dict[str, Any]]:
        """Return the raw values, one dictionary a row, keyed by column names; JSON can hold them."""
        return [{key: value for cell in line.cells for key, value in cell.raw.items()} for line in self.lines]


def _renumbered(cell: Cell, texts: Sequence[str], notes: Notes) -> Cell:
    return cell if cell.note is None else replace(cell, note=notes.number(texts[cell.note - 1]))


class Notes:
    """The footnotes of a table while it is being built: equal reasons share a number."""

    def __init__(self, earlier: Sequence[str] = ()) -> None:
        """Start with the notes of a table that is to be extended."""
        self._numbers = {reason: number for number, reason in enumerate(earlier, start=1)}

    def number(self, reason: str | None) -> int | None:
        """Return the number of a reason's note, counted from 1."""
        return self._numbers.setdefault(reason, len(self._numbers) + 1) if reason else None

    @property
    def texts(self) -> tuple[str, ...]:
        """The notes in the order of their numbers."""
        return tuple(self._numbers)
