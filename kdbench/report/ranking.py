"""Methods over several tasks, told in a table and sentences, in the terminal and as data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from kdbench.analysis.comparison import CONTROL
from kdbench.analysis.intervals import Interval
from kdbench.analysis.ranks import Ranking
from kdbench.analysis.standings import REFERENCE, Standing, Standings, standings
from kdbench.analysis.summary import summarise
from kdbench.column import Column
from kdbench.errors import UserError
from kdbench.printable import counted, printable
from kdbench.report import numerals
from kdbench.report.columns import short_title
from kdbench.report.evidence import p_text
from kdbench.report.renderers.terminal import print_table
from kdbench.report.table import Cell, Heading, Line, Notes, Table


def rank(
    paths: Sequence[str | Path], metric: str | None = None, baseline: str = CONTROL
) -> list[dict[str, Any]]:
    """Return the methods of several runs by mean rank over all their students; JSON can hold the rows.

    A row has ``method``, ``mean_rank``, ``iqm`` (interquartile mean of ``metric``) and ``p_better`` (the
    probability that one training betters one of the baseline), both with ``_low`` and ``_high``, ``ari``,
    and in each row what holds for all: ``friedman_p``, ``critical_difference``, ``tasks``, ``datasets``.
    Raises UserError for a path, metric or baseline that does not exist, and where there is nothing to rank.
    """
    result, column = _standings(paths, metric, baseline)
    return standings_table(result, column).as_rows()


def render_ranks(
    paths: Sequence[str | Path],
    console: Console,
    metric: str | None = None,
    baseline: str = CONTROL,
    figure: Path | None = None,
) -> None:
    """Print the methods by mean rank, and draw the critical-difference diagram into ``figure``.

    Raises UserError as ``rank`` does, and for a diagram of what cannot be tested.
    """
    result, column = _standings(paths, metric, baseline)
    table = standings_table(result, column)
    if figure is not None:
        # Drawing needs half a second of imports.
        from kdbench.report.diagram import draw_ranking
        from kdbench.report.gallery import write_figure

        if result.ranking.reason is not None:
            raise UserError(f"no diagram can be drawn: {result.ranking.reason}.")
        write_figure(figure, lambda: draw_ranking(result.ranking, table.title))
    print_table(table, console)
    if figure is not None:
        console.print(Text(f"\nWrote {printable(str(figure))}."), soft_wrap=True)


def _standings(paths: Sequence[str | Path], metric: str | None, baseline: str) -> tuple[Standings, Column]:
    summaries = [summarise(path) for path in paths]
    result = standings(summaries, metric, baseline)
    if not result.tasks:
        raise UserError(f"nothing to rank: {result.ranking.reason}.")
    return result, summaries[0].columns[result.metric]


def standings_table(standings: Standings, column: Column) -> Table:
    """Return the methods by mean rank, with interquartile mean, P(better) and ARI."""
    notes = Notes()
    headings = [
        Heading("method", "method", numeric=False),
        Heading("mean_rank", "mean rank", "↓"),
        Heading(
            "iqm",
            f"IQM {short_title(column)}",
            column.arrow,
            numerals.unit(column),
            help="interquartile mean over students and seeds",
        ),
        Heading(
            "p_better",
            f"P(> {standings.baseline})",
            "↑",
            help=f"probability that one training is better than one of {standings.baseline}",
        ),
    ]
    # Without the two methods that ARI is made of the column would hold nothing but dashes.
    if {CONTROL, REFERENCE} <= set(standings.ranking.methods):
        headings.append(
            Heading("ari", f"ARI over {REFERENCE}", unit="%", help="average relative improvement")
        )
    shared = {
        "metric": standings.metric,
        "baseline": standings.baseline,
        "friedman_p": standings.ranking.p,
        "critical_difference": standings.ranking.critical_difference,
        "tasks": len(standings.tasks),
        "datasets": len(standings.datasets),
        "ranking_reason": standings.ranking.reason,
    }
    kept = {heading.key for heading in headings}
    lines = tuple(
        Line(tuple(cell for key, cell in _cells(row, column, notes, shared) if key in kept))
        for row in standings.rows
    )
    legend = (*verdict(standings), *_reading(standings), *standings.left_out, *standings.cautions)
    title = f"{column.title}: methods by mean rank over {counted(len(standings.tasks), 'student')}"
    if len(standings.datasets) > 1:
        title += f" on {counted(len(standings.datasets), 'dataset')}"
    return Table(title, tuple(headings), lines, legend, notes.texts)


def _cells(row: Standing, column: Column, notes: Notes, shared: dict[str, Any]) -> Iterator[tuple[str, Cell]]:
    raw = {"method": row.method, "ari": row.ari, "ari_reason": row.ari_reason}
    yield "method", Cell(row.method, raw, sort=row.method)
    ranked = {"mean_rank": row.mean_rank} | shared
    yield "mean_rank", Cell(f"{row.mean_rank:.2f}", ranked, sort=row.mean_rank)

    def value(number: float) -> str:
        return numerals.number(column, number, decimals=2)

    yield "iqm", _interval_cell("iqm", row.iqm, notes, value)
    yield "p_better", _interval_cell("p_better", row.improvement, notes, "{:.2f}".format)
    text = numerals.DASH if row.ari is None else f"{100 * row.ari:.0f}".replace("-", numerals.MINUS)
    yield "ari", Cell(text, note=notes.number(row.ari_reason), sort=row.ari)


def _interval_cell(name: str, interval: Interval, notes: Notes, text: Callable[[float], str]) -> Cell:
    raw = {
        name: interval.mean,
        f"{name}_low": interval.low,
        f"{name}_high": interval.high,
        f"{name}_reason": interval.reason,
    }
    if interval.mean is None:
        return Cell(numerals.DASH, raw, notes.number(interval.reason))
    bounds = numerals.DASH
    if interval.low is not None and interval.high is not None:
        bounds = f"{text(interval.low)}, {text(interval.high)}"
    return Cell(f"{text(interval.mean)} [{bounds}]", raw, notes.number(interval.reason), interval.mean)


def verdict(standings: Standings) -> Iterator[str]:
    """Say what Friedman's test and Nemenyi's show, and what a student counts for."""
    ranking = standings.ranking
    if ranking.reason is not None:
        yield f"Not tested: {ranking.reason}."
        return
    yield f"{_friedman(ranking)} over {ranking.blocks} students. {_told_apart(ranking)}"
    if len(standings.tasks) > len(standings.datasets):
        yield (
            "The test takes students for independent; those of one dataset share its test set and often a "
            "teacher, so that p is too small if it is read as a claim about other datasets."
        )
    if standings.by_dataset is not None and standings.by_dataset.reason is None:
        once = _friedman(standings.by_dataset)
        yield f"With each of the {standings.by_dataset.blocks} datasets counted once: {once}."


def _friedman(ranking: Ranking) -> str:
    assert ranking.p is not None
    return f"Friedman's test: {p_text(ranking.p)}"


def _told_apart(ranking: Ranking) -> str:
    if not ranking.differs:
        return "No difference between the methods is shown."
    groups = [", ".join(ranking.methods[first : last + 1]) for first, last in ranking.cliques]
    if not groups:
        return f"All methods are told apart (Nemenyi, CD = {ranking.critical_difference:.2f})."
    return f"Not told apart (Nemenyi, CD = {ranking.critical_difference:.2f}): {'; '.join(groups)}."


def _reading(standings: Standings) -> Iterator[str]:
    yield (
        "IQM is the mean of the middle half of all scores. Brackets are 95 % intervals over the seeds of "
        "these students; other students are not covered."
    )
    if any(row.ari is not None for row in standings.rows):
        yield (
            f"ARI is the mean of (method − {REFERENCE})/({REFERENCE} − {CONTROL}); it explodes where "
            f"{REFERENCE} gains little, and is here for comparison with papers only."
        )
