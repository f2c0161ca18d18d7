"""What models cost, as plain rows and as a terminal table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from kdbench.bounds import UNCOUNTED, Bound, bound_of, signed
from kdbench.column import Column
from kdbench.efficiency.measure import describe_noise
from kdbench.efficiency.repeats import Repeats
from kdbench.printable import printable


def measure_rows(repeats: Repeats, columns: Sequence[Column]) -> list[dict[str, Any]]:
    """Return the costs of models as plain rows.

    Of several repeats the figures are medians, with their values and spread under ``repeats`` and ``spread``;
    of one, ``intervals`` holds the 95 % intervals. What is null has its reason under ``reasons``, and
    ``bounds`` says which figures are a ``lower`` or an ``upper`` bound, since ``uncounted`` may multiply.
    ``noise`` says by pass (``cpu_b1``) what made the timings doubtful, ``macs_note`` by which operators
    torch's own counter differs, where it does, and ``outputs_note`` that a model has another number of
    classes than was asked for.
    """
    rows = []
    several = len(repeats.reports) > 1
    for label in repeats.labels:
        measured = [column for column in columns if column.name in repeats.reports[0].metrics[label]]
        counts = _counts(repeats, label)
        row: dict[str, Any] = {"model": label}
        row |= {column.name: repeats.median(label, column) for column in measured}
        row["bounds"] = {
            column.name: bound for column in measured if (bound := _bound(repeats, label, column.name))
        }
        timed = [column.name for column in measured if column.place and row[column.name] is not None]
        if several:
            row["repeats"] = {name: repeats.values(label, name) for name in timed}
            row["spread"] = {name: repeats.spread(label, name) for name in timed}
        else:
            row["intervals"] = repeats.reports[0].intervals.get(label, {})
        rows.append(
            row
            | {
                "noise": repeats.noise,
                "reasons": repeats.reasons(label),
                "macs_note": counts.get("note"),
                "outputs_note": _outputs_note(repeats, label),
                "uncounted": counts.get("uncounted", {}),
            }
        )
    return rows


def measure_table(repeats: Repeats, columns: Sequence[Column]) -> Table:
    """Return the costs of models as a terminal table, a row a quantity; beside a figure is how sure it is."""
    notes = Text("\n".join(map(printable, _notes(repeats, columns))))
    table = Table(title="cost of a model", caption=notes, box=SIMPLE)
    table.add_column("quantity")
    table.add_column("unit")
    for label in repeats.labels:
        table.add_column(Text(printable(label)), justify="right")
    for column in columns:
        cells = [_cell(repeats, label, column) for label in repeats.labels]
        if any(cells) and not (column.name == UNCOUNTED and set(cells) <= {"", "0"}):
            texts = (f"{column.title} {column.arrow}", column.unit, *(cell or "–" for cell in cells))
            table.add_row(*map(Text, texts))
    return table


def _cell(repeats: Repeats, label: str, column: Column) -> str:
    name, value = column.name, repeats.median(label, column)
    if value is None:
        return ""
    bounds = repeats.reports[0].intervals.get(label, {}).get(name)
    if len(repeats.reports) > 1:
        spread = repeats.spread(label, name) if column.place else None
        beside = "" if spread is None else f" ±{spread:.1%}"
    else:
        beside = f" [{_number(bounds[0])}–{_number(bounds[1])}]" if bounds else ""
    return signed(_number(value), _bound(repeats, label, name)) + beside


def _counts(repeats: Repeats, label: str) -> Mapping[str, Any]:
    return repeats.reports[0].conditions["counts"].get(label, {})


def _outputs_note(repeats: Repeats, label: str) -> str | None:
    """Return that a model does not have as many classes as were asked for: its figures are of another."""
    outputs = _counts(repeats, label).get("outputs")
    if outputs is None or outputs == (classes := repeats.reports[0].conditions["num_classes"]):
        return None
    return (
        f"it gives {outputs} outputs, not the {classes} classes that were asked for: "
        "does its function take num_classes?"
    )


def _bound(repeats: Repeats, label: str, name: str) -> Bound | None:
    return bound_of(name, repeats.uncounted(label)) if repeats.values(label, name) else None


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 10_000 else f"{value:.4g}"


def _notes(repeats: Repeats, columns: Sequence[Column]) -> Iterable[str]:
    if len(repeats.reports) > 1:
        yield f"medians of {len(repeats.reports)} runs, ± the run farthest from them"
    elif any(repeats.reports[0].intervals.values()):
        yield "in brackets: 95 % bootstrap interval over the rounds of this run"
    if repeats.reference is not None and any(
        report.metrics[repeats.reference].get(column.name) is not None
        for report in repeats.reports
        for column in columns
        if column.place
    ):
        yield (
            "latencies are medians over rounds in which all models took turns, each divided by the pace of "
            f"{repeats.reference} in that round; speed-up is the latency of {repeats.reference} / the model's"
        )
    if repeats.noise:
        yield f"the machine was not quiet: {describe_noise(repeats.noise)}"
    texts = {text for label in repeats.labels for text in repeats.reasons(label).values()}
    if texts:
        yield f"missing: {'; '.join(sorted(texts))}"
    for label in repeats.labels:
        counts = _counts(repeats, label)
        if calls := counts.get("uncounted"):
            names = ", ".join(f"{name} ({times}×)" for name, times in calls.items())
            yield f"{label}: ≥ and ≤ are bounds, for {names} may multiply and could not be counted"
        for note in (_outputs_note(repeats, label), counts.get("note")):
            if note:
                yield f"{label}: {note}"
