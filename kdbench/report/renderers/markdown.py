"""The report, and a table, in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from kdbench.printable import printable
from kdbench.report.blocks import Answer, Facts, Paragraphs, Plate, Plates, Points, Shown
from kdbench.report.content import Content
from kdbench.report.table import Table


def as_document(content: Content, figures: str = "figures") -> str:
    """Return report.md; pictures are linked from the folder ``figures``."""
    return "\n".join(_lines(content, figures)).rstrip() + "\n"


def _lines(content: Content, figures: str) -> Iterator[str]:
    yield f"# {escape_markdown(content.title)}\n"
    for block in content.opening:
        yield from _shown(block, figures)
    for part in content.parts:
        lines = [line for block in part.blocks for line in _shown(block, figures)]
        if lines and part.title:
            yield f"## {escape_markdown(part.title)}\n"
        yield from lines


def _shown(block: Shown, figures: str) -> Iterator[str]:
    """Yield the lines of a block; of what can only be clicked there are none."""
    match block:
        case Table():
            yield as_markdown(block)
        case Paragraphs(texts, strong):
            mark = "**" if strong else ""
            yield from (f"{mark}{escape_markdown(text)}{mark}\n" for text in texts)
        case Answer(texts):
            yield from (f"{escape_markdown(text)}\n" for text in texts)
        case Points(texts, warnings):
            yield from _list(map(escape_markdown, (*warnings, *texts)))
        case Facts(pairs, heading, reasons):
            if heading:
                yield f"### {escape_markdown(heading)}\n"
            mark = "" if heading or reasons else "**"
            yield from _list(
                f"{mark}{escape_markdown(name)}{mark}: {escape_markdown(value)}" for name, value in pairs
            )
        case Plates(plates):
            yield from _pictures(plates, figures)


def _pictures(plates: Iterable[Plate], figures: str) -> Iterator[str]:
    missing = []
    for plate in plates:
        if plate.missing is not None:
            missing.append(f"{escape_markdown(plate.stem)}: {escape_markdown(plate.missing)}")
            continue
        yield f"![{escape_markdown(plate.title)}]({figures}/{plate.stem}.png)\n"
        yield f"*{escape_markdown(plate.title)}.* {escape_markdown(plate.caption)}\n"
    if missing:
        yield "Not drawn:\n"
        yield from _list(missing)


def _list(items: Iterable[str]) -> Iterator[str]:
    yield from (f"- {item}" for item in items)
    yield ""


def as_markdown(table: Table) -> str:
    """Return the table in Markdown, with its legend and notes below."""

    def row(texts: Sequence[str]) -> str:
        return f"| {' | '.join(texts)} |"

    lines = [
        row([escape_markdown(heading.text) for heading in table.headings]),
        row(["---:" if heading.numeric else ":---" for heading in table.headings]),
    ]
    for line in table.lines:
        lines.append(row([escape_markdown(cell.text) + _sup(cell.note) for cell in line.cells]))
    notes = [f"{_sup(number)} {escape_markdown(note)}" for number, note in enumerate(table.notes, start=1)]
    below = "  \n".join([*map(escape_markdown, table.legend), *notes])
    return "\n".join(lines) + f"\n\n{below}\n"


def _sup(note: int | None) -> str:
    return f"<sup>{note}</sup>" if note else ""


def escape_markdown(text: str) -> str:
    """Return text on one line in which the characters that Markdown would read as markup are escaped."""
    text = re.sub(r"([\\`*_|<\[\]&#~$])", r"\\\1", printable(text))
    # What would begin a quotation, a list, a rule or a heading.
    text = re.sub(r"^(>|[-+=](?=[-+= ]|$))", r"\\\1", text)
    return re.sub(r"^(\d+)([.)])(?= |$)", r"\1\\\2", text)
