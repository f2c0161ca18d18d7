"""The report in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kdbench.report.content import Content
from kdbench.report.rendering import as_markdown, escape_markdown


def as_document(content: Content, figures: str = "figures") -> str:
    """Return report.md; pictures are linked from the folder ``figures``."""
    return "\n".join(_lines(content, figures)).rstrip() + "\n"


def _lines(content: Content, figures: str) -> Iterator[str]:
    yield f"# {escape_markdown(content.title)}\n"
    if content.description:
        yield f"{escape_markdown(content.description.strip())}\n"
    yield from (f"{escape_markdown(sentence)}\n" for sentence in content.answer)
    yield from _list(f"**{name}**: {escape_markdown(value)}" for name, value in content.facts)
    yield f"## Results\n\n{as_markdown(content.headline)}"
    yield "## How to read this\n"
    yield from _list(map(escape_markdown, (*content.warnings, *content.reading)))
    yield "## Recipe\n"
    yield from map(as_markdown, content.recipes)
    yield from _list(f"**{name}**: {escape_markdown(value)}" for name, value in content.setting)
    if content.differences.lines:
        yield f"## {escape_markdown(content.differences.title)}\n\n{as_markdown(content.differences)}"
    for table in (content.further, *content.of_tasks, content.over_kd, content.ranks, content.runtimes):
        if table:
            yield f"## {escape_markdown(table.title)}\n\n{as_markdown(table)}"
    if content.controls:
        yield "## Controls\n"
        if content.control_table:
            yield as_markdown(content.control_table)
        yield from _list(map(escape_markdown, content.controls))
    if content.exemplars:
        yield "## Examples that change for good\n"
        yield from _list(map(escape_markdown, content.exemplars))
    if content.published:
        yield f"## {escape_markdown(content.published.title)}\n"
        yield from (f"**{escape_markdown(text)}**\n" for text in content.published_cautions)
        yield as_markdown(content.published)
    yield "## Figures\n"
    for plate in content.plates:
        if plate.missing is None:
            yield f"![{escape_markdown(plate.title)}]({figures}/{plate.stem}.png)\n"
            yield f"*{escape_markdown(plate.title)}.* {escape_markdown(plate.caption)}\n"
    missing = [plate for plate in content.plates if plate.missing is not None]
    if missing:
        yield "Not drawn:\n"
        yield from _list(
            f"{escape_markdown(plate.stem)}: {escape_markdown(plate.missing or '')}" for plate in missing
        )
    if content.failures:
        yield "## Failed and skipped cells\n"
        yield from _list(
            escape_markdown(
                f"{failure.status}: {failure.student or failure.teacher}, {failure.method or 'teacher'}, "
                f"seed {failure.seed}: {failure.reason}"
            )
            for failure in content.failures
        )
    if content.nulls:
        yield "## Why numbers are missing\n"
        yield from _list(f"{escape_markdown(why)}: {escape_markdown(names)}" for why, names in content.nulls)
    yield "## Provenance\n"
    for name, facts in content.provenance:
        yield f"### {name}\n"
        yield from _list(f"{escape_markdown(key)}: {escape_markdown(value)}" for key, value in facts)


def _list(items: Iterable[str]) -> Iterator[str]:
    yield from (f"- {item}" for item in items)
    yield ""
