"""What the sections of a report are made of; Markdown and the HTML page each show every kind of block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kdbench.report.table import Table

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Title:
    """What a section, or a further part of it, is called; before the first of a report lies its opening."""

    text: str


@dataclass(frozen=True)
class Paragraphs:
    """Running text."""

    kind: ClassVar = "paragraphs"
    texts: tuple[str, ...]
    strong: bool = False


@dataclass(frozen=True)
class Answer:
    """The sentences that say in short what a run shows."""

    kind: ClassVar = "answer"
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Points:
    """A list of sentences, the warnings first.

    Where ``faults`` is set, the parts of the report that could not be made are told too.
    """

    kind: ClassVar = "points"
    texts: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    faults: bool = False


@dataclass(frozen=True)
class Facts:
    """Names with what is known of each, under a heading of their own where there is one.

    With ``reasons`` the names are sentences, and what they hold for is listed.
    """

    kind: ClassVar = "facts"
    pairs: Pairs
    heading: str = ""
    reasons: bool = False


@dataclass(frozen=True)
class File:
    """A table that is written beside the report, as NAME.csv and NAME.tex; it shows nothing by itself."""

    name: str
    table: Table


@dataclass(frozen=True)
class Hint:
    """What to know of a page that can be clicked; shown nowhere else."""

    kind: ClassVar = "hint"
    text: str


@dataclass(frozen=True)
class Chart:
    """An interactive chart as JSON (see `kdbench.report.scatter`), and how to read it; on the page only."""

    kind: ClassVar = "chart"
    json: str
    legend: str


@dataclass(frozen=True)
class Plate:
    """One figure of a report: its files share ``stem``; ``missing`` says why there are none.

    ``width`` is in inches.
    """

    stem: str
    title: str
    caption: str
    png: bytes = b""
    svg: bytes = b""
    width: float = 0.0
    missing: str | None = None


@dataclass(frozen=True)
class Plates:
    """The figures of a report, and why others are not drawn; a section leaves it to the report to fill it."""

    kind: ClassVar = "plates"
    plates: tuple[Plate, ...] = ()


# What is shown, in this order; a table is one of them.
Shown = Paragraphs | Answer | Points | Facts | Hint | Chart | Plates | Table
Block = Title | File | Shown
