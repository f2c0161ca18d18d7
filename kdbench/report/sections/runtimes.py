"""The table of latencies by runtime: eager beside what a model can be deployed with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain

from kdbench.analysis.costs import MEDIAN, CostFiles, read_costs
from kdbench.analysis.rows import Row
from kdbench.analysis.summary import Summary
from kdbench.column import Column
from kdbench.place import RUNTIME_TITLES, Place
from kdbench.report import numerals
from kdbench.report.blocks import Block, File, Title
from kdbench.report.headline import footing
from kdbench.report.registry import section
from kdbench.report.table import Cell, Heading, Line, Notes, Table

EAGER = "eager"


@section("runtimes", order=180, files=("runtimes",))
def runtimes(summary: Summary) -> Iterator[Block]:
    """Give the latencies by runtime, where more than eager mode was timed."""
    table = runtime_table(summary)
    if table is not None:
        yield File("runtimes", table)
        yield Title(table.title)
        yield table


def runtime_table(summary: Summary) -> Table | None:
    """Return the median latency of each model by runtime, and how much faster than eager mode each is.

    None where a run was timed in eager mode only. A row is a model at one device, batch size, number of
    threads and precision; rows in which nothing was measured are left out.
    """
    columns = _columns(summary)
    runtimes = dict.fromkeys(chain([EAGER], *columns.values()))
    if len(runtimes) < 2:
        return None
    notes, costs = Notes(), read_costs(summary)
    several = len(summary.teacher_names) > 1
    lines = [
        Line(tuple(_cells(row, place, by_runtime, runtimes, several, costs, notes)), row.role == "teacher")
        for row in _models(summary)
        for place, by_runtime in columns.items()
        if any(row.mean(column.name) is not None for column in by_runtime.values())
    ]
    every = [column for by_runtime in columns.values() for column in by_runtime.values()]
    legend = (
        "Latencies of one forward pass; all runtimes of a batch size took turns in the same rounds. "
        "× is how many times faster than eager mode the runtime is. "
        "A runtime is timed only where its output is that of eager mode.",
        *footing(every, costs),
    )
    return Table("Latency by runtime", tuple(_headings(runtimes, several)), tuple(lines), legend, notes.texts)


def _columns(summary: Summary) -> dict[Place, dict[str, Column]]:
    """Return the columns of median latencies, by runtime, under the place in eager mode."""
    by_place: dict[Place, dict[str, Column]] = {}
    for column in summary.columns.values():
        if column.quantity == MEDIAN and column.place:
            eager = replace(column.place, runtime=EAGER)
            by_place.setdefault(eager, {})[column.place.runtime] = column
    return by_place


def _models(summary: Summary) -> Iterable[Row]:
    """Yield the first row of each model: its cost is the same for every method that trained it."""
    seen: set[tuple[str, str]] = set()
    for row in summary.rows:
        if row.seeds and (row.teacher, row.model) not in seen:
            seen.add((row.teacher, row.model))
            yield row


def _headings(runtimes: Iterable[str], several: bool) -> Iterable[Heading]:
    if several:
        yield Heading("teacher", "teacher", numeric=False)
    yield Heading("student", "model", numeric=False)
    yield Heading("setting", "setting", numeric=False)
    for name in runtimes:
        title = RUNTIME_TITLES[name]
        yield Heading(name, f"{title} p50", "↓", "ms")
        if name != EAGER:
            yield Heading(f"{name}_gain", "×", "↑", help=f"latency of eager mode / that of {title}")


def _cells(
    row: Row,
    place: Place,
    columns: Mapping[str, Column],
    runtimes: Iterable[str],
    several: bool,
    costs: CostFiles,
    notes: Notes,
) -> Iterable[Cell]:
    if several:
        yield Cell(row.teacher, sort=row.teacher)
    yield Cell(row.model, {"teacher": row.teacher, "model": row.model}, sort=row.model)
    setting = {name: getattr(place, name) for name in ("device", "batch", "threads", "precision")}
    yield Cell(place.words, setting, sort=place.words)
    eager = row.mean(columns[EAGER].name)
    for runtime in runtimes:
        column = columns.get(runtime)
        value = None if column is None else row.mean(column.name)
        if column is None or value is None:
            missing = "there is no such runtime on this device"
            reason = "; ".join(row.reasons.get(column.name, ())) if column else missing
            yield Cell(numerals.DASH, {f"{runtime}_p50_ms": None}, notes.number(reason))
        else:
            yield _latency_cell(row, runtime, column, value, costs)
        if runtime != EAGER:
            gain = eager / value if eager is not None and value else None
            text = numerals.DASH if gain is None else numerals.significant(gain, 3)
            yield Cell(text, {f"{runtime}_over_eager": gain}, sort=gain)


def _latency_cell(row: Row, runtime: str, column: Column, value: float, costs: CostFiles) -> Cell:
    bounds = costs.interval(row.teacher, row.model, column.name)
    low, high = bounds or (None, None)
    ends = " to ".join(numerals.number(column, end) for end in (low, high))
    hint = f"95 % interval {ends}" if bounds else ""
    raw = {f"{runtime}_p50_ms": value, f"{runtime}_p50_low_ms": low, f"{runtime}_p50_high_ms": high}
    return Cell(numerals.number(column, value), raw, sort=value, hint=hint)
