"""The report in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kdbench.report.blocks import Answer, Facts, Paragraphs, Plate, Plates, Points, Shown
from kdbench.report.content import Content
from kdbench.report.rendering import as_markdown
from kdbench.report.rendering import escape_markdown as escaped
from kdbench.report.table import Table


def as_document(content: Content, figures: str = "figures") -> str:
    """Return report.md; pictures are linked from the folder ``figures``."""
    return "\n".join(_lines(content, figures)).rstrip() + "\n"


def _lines(content: Content, figures: str) -> Iterator[str]:
    yield f"# {escaped(content.title)}\n"
    for block in content.opening:
        yield from _shown(block, figures)
    for part in content.parts:
        lines = [line for block in part.blocks for line in _shown(block, figures)]
        if lines and part.title:
            yield f"## {escaped(part.title)}\n"
        yield from lines


def _shown(block: Shown, figures: str) -> Iterator[str]:
    """Yield the lines of a block; of what can only be clicked there are none."""
    match block:
        case Table():
            yield as_markdown(block)
        case Paragraphs(texts, strong):
            mark = "**" if strong else ""
            yield from (f"{mark}{escaped(text)}{mark}\n" for text in texts)
        case Answer(texts):
            yield from (f"{escaped(text)}\n" for text in texts)
        case Points(texts, warnings):
            yield from _list(map(escaped, (*warnings, *texts)))
        case Facts(pairs, heading, reasons):
            if heading:
                yield f"### {escaped(heading)}\n"
            mark = "" if heading or reasons else "**"
            yield from _list(f"{mark}{escaped(name)}{mark}: {escaped(value)}" for name, value in pairs)
        case Plates(plates):
            yield from _pictures(plates, figures)


def _pictures(plates: Iterable[Plate], figures: str) -> Iterator[str]:
    missing = []
    for plate in plates:
        if plate.missing is not None:
            missing.append(f"{escaped(plate.stem)}: {escaped(plate.missing)}")
            continue
        yield f"![{escaped(plate.title)}]({figures}/{plate.stem}.png)\n"
        yield f"*{escaped(plate.title)}.* {escaped(plate.caption)}\n"
    if missing:
        yield "Not drawn:\n"
        yield from _list(missing)


def _list(items: Iterable[str]) -> Iterator[str]:
    yield from (f"- {item}" for item in items)
    yield ""
