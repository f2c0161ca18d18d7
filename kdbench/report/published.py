"""Measured beside published: the columns that a comparison gains, the table of a report, and the cautions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kdbench.analysis.published import Match, Published
from kdbench.analysis.rows import Row
from kdbench.analysis.summary import Summary
from kdbench.report import numerals
from kdbench.report.headline import identity_cells, identity_headings
from kdbench.report.table import Cell, Heading, Line, Notes, Table

# Papers print accuracies with two decimals, whatever the test split can carry.
DECIMALS = 2
EPOCHS = {"last": "last", "best-on-test": "best on test"}
SHORT = {"last": "last", "best-on-test": "best"}
UNLIKE = "unlike in the paper"


def with_published(table: Table, summary: Summary, published: Published) -> Table:
    """Return the comparison table with the columns ``published`` and ``published_difference``."""
    notes = Notes(table.notes)
    place = 1 + next(i for i, heading in enumerate(table.headings) if heading.key == "difference")
    headings = (
        Heading(
            "published",
            "published",
            unit="%",
            importance=1,
            help="top-1 that a paper reports, and the epoch that it is of",
        ),
        Heading(
            "published_difference",
            "Δ publ.",
            unit="points",
            importance=1,
            help="top-1 of the last epoch here minus the published figure",
        ),
    )
    decimals = numerals.percent_decimals(summary.test_size)
    lines = []
    for row, line in zip(summary.without_repeats().rows, table.lines, strict=True):
        cells = _compared(row, published, notes, decimals)
        lines.append(replace(line, cells=(*line.cells[:place], *cells, *line.cells[place:])))
    # What was asked for shall not be the first to leave a narrow terminal.
    others = [replace(h, importance=h.importance + 1) if h.importance else h for h in table.headings]
    return replace(
        table,
        headings=(*others[:place], *headings, *others[place:]),
        lines=tuple(lines),
        legend=(*table.legend, *_explained(published)),
        notes=notes.texts,
    )


def _explained(published: Published) -> list[str]:
    if not published.matches:
        return []
    figures = [match.figure for match in published.matches.values()]
    best = any(figure.epoch == "best-on-test" for figure in figures)
    selected = ", (best) of the epoch best on the test split, which flatters it" if best else ""
    sources = ", ".join(dict.fromkeys(figure.source for figure in figures))
    return [
        f"Published is top-1 as papers print it: (last) of the last epoch{selected}. Δ publ. is top-1 of "
        f"the last epoch here minus that. Sources: {sources}."
    ]


def _compared(row: Row, published: Published, notes: Notes, decimals: int) -> tuple[Cell, Cell]:
    match = published.of(row)
    raw = _raw(match, published.reason and f"no published figures: {published.reason}")
    difference = {"published_difference": raw.pop("published_difference")}
    if match is None:
        return Cell("", raw), Cell("", difference)
    figure = match.figure
    text = f"{numerals.percent(figure.top1, DECIMALS)} ({SHORT[figure.epoch]})"
    note = _note(match, published, notes)
    shown = Cell(text, raw, note, figure.top1, f"{figure.source}, {EPOCHS[figure.epoch]} epoch")
    return shown, Cell(numerals.points(match.difference, decimals), difference, sort=match.difference)


def published_table(summary: Summary, published: Published) -> Table | None:
    """Return the rows that have a published figure, measured beside published; None where no row has one."""
    if not published.matches:
        return None
    notes, decimals = Notes(), numerals.percent_decimals(summary.test_size)
    several = len(summary.teacher_names) > 1
    headings = (
        *identity_headings(several),
        Heading("top1", "measured, last epoch", unit="%"),
        Heading("top1_best_val", "measured, best on validation", unit="%"),
        Heading("published", "published", unit="%"),
        Heading("published_epoch", "epoch reported", numeric=False),
        Heading(
            "published_difference", "Δ", unit="points", help="measured at the last epoch minus published"
        ),
        Heading("published_source", "source", numeric=False),
    )
    lines = []
    for row in summary.rows:
        match = published.of(row)
        if match is not None:
            cells = _cells(row, match, summary, published, several, notes, decimals)
            lines.append(Line(cells, teacher=row.role == "teacher"))
    return Table("Measured and published", headings, tuple(lines), _legend(summary, published), notes.texts)


def _cells(
    row: Row, match: Match, summary: Summary, published: Published, several: bool, notes: Notes, decimals: int
) -> tuple[Cell, ...]:
    raw, figure = _raw(match), match.figure
    n = row.metrics["top1"].n
    return (
        *identity_cells(row, several),
        Cell(str(n), {"n": n}, sort=n),
        _measured(row, "top1", summary, notes, decimals),
        _measured(row, "top1_best_val", summary, notes, decimals),
        Cell(
            numerals.percent(figure.top1, DECIMALS),
            {"published": figure.top1, "published_note": raw["published_note"]},
            _note(match, published, notes),
            figure.top1,
        ),
        Cell(EPOCHS[figure.epoch], {"published_epoch": figure.epoch}, sort=figure.epoch),
        Cell(
            numerals.points(match.difference, decimals),
            {"published_difference": match.difference},
            sort=match.difference,
        ),
        Cell(figure.source, {"published_source": figure.source}, sort=figure.source),
    )


def _measured(row: Row, name: str, summary: Summary, notes: Notes, decimals: int) -> Cell:
    interval = row.metrics.get(name)
    if interval is None:
        return Cell(numerals.DASH, {name: None}, notes.number("not recorded"))
    raw = {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
    note = notes.number(interval.reason) if interval.mean is None else None
    text = numerals.with_interval(summary.columns[name], interval.mean, interval.half_width, decimals)
    return Cell(text, raw, note, interval.mean)


def _legend(summary: Summary, published: Published) -> tuple[str, ...]:
    matched = [row for row in summary.rows if published.of(row)]
    spread = any(row.metrics["top1"].half_width is not None for row in matched)
    return (
        f"Measured: top-1 on {summary.test_size:,} test examples, means over n seeds"
        f"{', ± half their 95 % t interval' if spread else ''}; of the last epoch, and of the epoch best on "
        "validation. Nothing here is chosen on the test split.",
        "Published: as the source prints it; 'last' is of the last epoch, 'best on test' of the epoch that "
        "did best on the test split, which flatters the figure. Δ is measured at the last epoch minus "
        "published.",
        f"{len(matched):,} of the {len(summary.rows):,} rows of this run have a published figure.",
    )


def cautions(published: Published) -> list[str]:
    """Return what must be known before measured and published are compared, or why there is nothing."""
    if published.reason:
        return [f"No published figures: {published.reason}."]
    assert published.protocol is not None
    matches = published.matches.values()
    more = any(published.not_shared(match) for match in matches)
    if published.shared:
        who = "This run does" if all(map(published.has_all_shared, matches)) else "The students do"
        rest = " Notes at the rows say what else differs." if more else ""
        return [
            f"{who} not follow the recipe of the papers: {', '.join(published.shared)}.{rest} Differences "
            "from published figures may be due to that alone."
        ]
    if more:
        return [
            "Rows with a note do not follow the recipe of the papers: their differences from published "
            "figures may be due to that alone."
        ]
    recipe = published.protocol.recipe
    return [
        f"This run follows the recipe of the papers: {recipe.epochs} epochs on {published.protocol.train:,} "
        "training images, with the same optimiser, schedule and augmentation."
    ]


def _raw(match: Match | None, reason: str | None = None) -> dict[str, Any]:
    """Return the values for machines; ``published`` is a proportion, as the measured top-1 is."""
    names = ("published", "published_epoch", "published_source", "published_difference")
    if match is None:
        return dict.fromkeys(names) | {"published_note": reason}
    figure = match.figure
    values = (figure.top1, figure.epoch, figure.source, match.difference)
    note = f"{UNLIKE}: {', '.join(match.unlike)}" if match.unlike else None
    return dict(zip(names, values, strict=True)) | {"published_note": note}


def _note(match: Match, published: Published, notes: Notes) -> int | None:
    """Return the number of the note on what differs in this row and not in all of them."""
    own = published.not_shared(match)
    return notes.number(f"{UNLIKE}: {', '.join(own)}" if own else None)
