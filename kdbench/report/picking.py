"""What to ship: the choice of a run within limits, as values and in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import rich.table
from rich.console import Console
from rich.text import Text

from kdbench.analysis.choice import Choice, Limit, choose
from kdbench.analysis.comparison import Comparison
from kdbench.analysis.costs import usual_costs
from kdbench.analysis.findings import savings
from kdbench.analysis.rows import Row
from kdbench.analysis.summary import Summary, summarise
from kdbench.column import Column, unknown_column
from kdbench.printable import counted, printable
from kdbench.report import numerals
from kdbench.report.phrases import against_teacher_text, difference_text, full_name, saved_text

SIGNS = {"max": "≤", "min": "≥"}
WEIGHTS = "weights.safetensors"


def pick(
    path: str | Path,
    *,
    at_most: Mapping[str, float] | None = None,
    at_least: Mapping[str, float] | None = None,
    by: str | None = None,
    within: float | None = None,
) -> dict[str, Any]:
    """Return which student of a run to ship, as values that JSON can hold.

    Of the rows whose means over seeds are ``at_most`` and ``at_least`` so much it is the best ``by`` a
    column, by default the headline of the run; with ``within`` the cheapest whose loss against that best is
    not known to be as much as this, in points for shares (see `kdbench.analysis.choice.choose`). Shares in
    limits are proportions.

    ``picked`` is its labels, ids by seed and figures, or None where nothing fits: then ``nearest`` is the row
    that misses the limits by least, with its ``misses``. ``teacher``, ``runner_up`` and ``loss`` are
    differences ``by`` that column, each with its interval, p and verdict.

    Raises UserError for a path or column that does not exist, or a limit that is no number.
    """
    summary, choice = _chosen(path, at_most or {}, at_least or {}, by, within)
    return {
        "by": choice.metric,
        "limits": [_limit_values(limit) for limit in choice.limits],
        "rows": choice.judged,
        "fitting": [_labels(row) for row in choice.fitting],
        "picked": _row_values(summary, choice, choice.row),
        "teacher": _difference_values(choice.against_teacher),
        "runner_up": _row_values(summary, choice, choice.runner_up),
        "runner_up_difference": _difference_values(choice.against_runner_up),
        "within": within,
        "cost": choice.cost,
        "loss": _difference_values(choice.loss),
        "loss_interval": choice.loss_interval,
        "loss_within": choice.sureness,
        "nearest": _row_values(summary, choice, choice.nearest),
        "misses": [
            _limit_values(miss.limit) | {"found": miss.value, "reason": miss.reason} for miss in choice.misses
        ],
    }


def render_pick(
    path: str | Path,
    console: Console,
    *,
    at_most: Mapping[str, float] | None = None,
    at_least: Mapping[str, float] | None = None,
    by: str | None = None,
    within: float | None = None,
) -> bool:
    """Print the choice in words, with the command that exports it; return whether there is one."""
    summary, choice = _chosen(path, at_most or {}, at_least or {}, by, within)
    console.print(Text(printable(_opening(summary, choice))))
    console.print()
    grid = rich.table.Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    lines = _lines(summary, choice) if choice.row else _nearest_lines(summary, choice)
    for name, text in lines:
        grid.add_row(name, Text(printable(text)))
    console.print(grid)
    if choice.row:
        console.print()
        console.print(Text(printable(_export(summary, choice.row))), soft_wrap=True)
    return choice.row is not None


def _chosen(
    path: str | Path,
    at_most: Mapping[str, float],
    at_least: Mapping[str, float],
    by: str | None,
    within: float | None,
) -> tuple[Summary, Choice]:
    summary = summarise(path)
    limits = [Limit(name, "max", value) for name, value in at_most.items()]
    limits += [Limit(name, "min", value) for name, value in at_least.items()]
    metric = by or summary.headline
    if metric not in summary.columns:
        raise unknown_column(metric, summary.columns)
    if within is not None and summary.columns[metric].scale == "percent":
        within = within / 100
    return summary, choose(summary, limits, by, within)


def _opening(summary: Summary, choice: Choice) -> str:
    rows = counted(choice.judged, "row")
    if not choice.limits:
        return f"{summary.manifest['suite']}: {rows}, no limits."
    limits = ", ".join(_limit_text(summary, limit) for limit in choice.limits)
    count = len(choice.fitting)
    keep = "none keeps" if not count else "1 keeps" if count == 1 else f"{count:,} keep"
    return f"{summary.manifest['suite']}: of {rows} {keep} within {limits}."


def _lines(summary: Summary, choice: Choice) -> Iterator[tuple[str, str]]:
    row, teacher, rival = choice.row, choice.against_teacher, choice.against_runner_up
    assert row is not None and teacher is not None
    yield "Pick", full_name(summary, row)
    yield "", _value(summary, row, choice.metric)
    if choice.within is not None:
        yield "", _loss(summary, choice)
    yield "Costs", "; ".join(_figure(summary, row, name) for name in _shown_costs(summary, choice, row))
    gives = against_teacher_text(summary, teacher, 1) or f"not compared: {teacher.reason}"
    saves = saved_text(summary, dict(savings(summary, row)))
    yield "Teacher", "; ".join(part for part in (gives, saves) if part)
    if choice.runner_up is None or rival is None:
        yield "Runner-up", "none: no other row keeps within the limits"
        return
    value = _value(summary, choice.runner_up, choice.metric)
    yield "Runner-up", f"{full_name(summary, choice.runner_up)}: {value}; {_verdict(summary, rival)}"


def _loss(summary: Summary, choice: Choice) -> str:
    column = summary.columns[choice.metric]
    allowed = _difference_size(column, choice.within or 0.0, summary)
    assert choice.cost is not None
    by = summary.columns[choice.cost].label
    if choice.loss is None:
        return f"the best; no cheaper one ({by}) has a mean within {allowed} of it"
    surely = {
        "shown": f"shown to be under {allowed}",
        "not excluded": f"not shown to be under {allowed}, but its mean is",
        "not tested": f"under {allowed} by its mean, not tested",
    }[str(choice.sureness)]
    low, high = choice.loss_interval or (None, None)
    loss = difference_text(summary, replace(choice.loss, low=low, high=high))
    best = full_name(summary, choice.fitting[0])
    return f"the cheapest ({by}) within {allowed} of {best}: {loss}, {surely}"


def _verdict(summary: Summary, rival: Comparison) -> str:
    """Say whether the runner-up is truly worse."""
    if rival.difference is None:
        return f"not compared: {rival.reason}"
    if rival.verdict is None:
        told = f"not tested: {rival.reason}"
        if rival.examples.p is not None:
            told += f" (McNemar of the models as trained: p {numerals.p_value(rival.examples.p)})"
    else:
        told = {
            "better": "the pick is shown better",
            "worse": "the pick is shown worse, and is cheaper",
            "no difference shown": "no difference shown: which of the two is better is not known",
        }[rival.verdict]
    return f"the pick is {difference_text(summary, rival)} from it ({told})"


def _nearest_lines(summary: Summary, choice: Choice) -> Iterator[tuple[str, str]]:
    row = choice.nearest
    assert row is not None
    yield "Nearest", f"{full_name(summary, row)}: {_value(summary, row, choice.metric)}"
    for miss in choice.misses:
        wanted = _limit_text(summary, miss.limit)
        if miss.value is None:
            yield "Misses", f"{wanted}: not known, {miss.reason}"
        else:
            value = _figure(summary, row, miss.limit.column)
            yield "Misses", f"{wanted}: {value}, {100 * miss.size:.1f} % beyond"


def _export(summary: Summary, row: Row) -> str:
    """Return how to have the model as a file, or why that cannot be done here."""
    seed, id = next(iter(row.ids.items()))
    record = summary.run.record(id)
    assert record is not None
    if not summary.run.holds(record, WEIGHTS):
        return f"{summary.run.path} holds no weights: run the suite to have the model."
    which = f"  # seed {seed}, the first of {len(row.ids)}" if len(row.ids) > 1 else ""
    return f"kdbench export {summary.run.path / record.place} --to onnx{which}"


def _shown_costs(summary: Summary, choice: Choice, row: Row) -> list[str]:
    """Return the costs that are told: those that are limited, then the usual ones that are known."""
    limited = [limit.column for limit in choice.limits if summary.columns[limit.column].family == "cost"]
    usual = [name for name in usual_costs(summary.columns) if row.mean(name) is not None]
    latencies = [name for name in usual if summary.columns[name].place][:1]
    counts = [name for name in usual if not summary.columns[name].place]
    return list(dict.fromkeys((*limited, *latencies, *counts)))


def _value(summary: Summary, row: Row, name: str) -> str:
    column, interval = summary.columns[name], row.metrics[name]
    decimals = numerals.percent_decimals(summary.test_size)
    value = numerals.with_interval(column, interval.mean, interval.half_width, decimals)
    seeds = counted(len(row.values[name]), "seed")
    return f"{column.label} {value} {numerals.unit(column)}".rstrip() + f" ({seeds})"


def _figure(summary: Summary, row: Row, name: str) -> str:
    column = summary.columns[name]
    return f"{column.label} {_amount(summary, column, row.mean(name))}"


def _amount(summary: Summary, column: Column, value: float | None) -> str:
    decimals = numerals.percent_decimals(summary.test_size)
    return f"{numerals.number(column, value, decimals)} {numerals.unit(column)}".rstrip()


def _difference_size(column: Column, size: float, summary: Summary) -> str:
    decimals = numerals.percent_decimals(summary.test_size)
    return f"{numerals.number(column, size, decimals)} {numerals.difference_unit(column)}".rstrip()


def _limit_text(summary: Summary, limit: Limit) -> str:
    column = summary.columns[limit.column]
    return f"{column.label} {SIGNS[limit.side]} {_amount(summary, column, limit.value)}"


def _labels(row: Row) -> dict[str, Any]:
    return {"teacher": row.teacher, "student": row.student, "method": row.method}


def _limit_values(limit: Limit) -> dict[str, Any]:
    return {"column": limit.column, "side": limit.side, "limit": limit.value}


def _row_values(summary: Summary, choice: Choice, row: Row | None) -> dict[str, Any] | None:
    if row is None:
        return None
    limited = [limit.column for limit in choice.limits]
    names = dict.fromkeys((choice.metric, *limited, *_shown_costs(summary, choice, row)))
    interval = row.metrics[choice.metric]
    return {
        **_labels(row),
        "ids": {str(seed): id for seed, id in row.ids.items()},
        **{name: row.mean(name) for name in names},
        f"{choice.metric}_low": interval.low,
        f"{choice.metric}_high": interval.high,
    }


def _difference_values(comparison: Comparison | None) -> dict[str, Any] | None:
    if comparison is None:
        return None
    keys = ("baseline", "n", "difference", "low", "high", "p", "verdict", "reason")
    return {key: getattr(comparison, key) for key in keys} | {"mcnemar_p": comparison.examples.p}
