"""The headline table: every student and method, judged by one metric, beside quality and cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from kdbench.analysis.comparison import CONTROL, Comparison, compare_methods
from kdbench.analysis.costs import CostFiles, read_costs, usual_latencies
from kdbench.analysis.evidence import example_interval
from kdbench.analysis.pareto import pareto_front
from kdbench.analysis.rows import Row
from kdbench.analysis.summary import Summary
from kdbench.bounds import BOUNDED, signed
from kdbench.column import Column
from kdbench.heads import name_in
from kdbench.printable import counted
from kdbench.report import numerals
from kdbench.report.columns import short_title
from kdbench.report.evidence import raw_evidence
from kdbench.report.table import MARKS, Cell, Heading, Line, Notes, Table

FRONT = "◆"
# How the columns of a difference and of its bounds end.
ENDS = {"": "difference", "_low": "low", "_high": "high"}
# After the metric that judges and the costs: column, short title, importance (0 stays in every terminal).
QUALITY = (
    ("agreement", "agreement", 3),
    ("error_consistency", "error cons.", 8),
    ("ece", "ECE", 6),
    ("kl_teacher_student", "KL(t‖s)", 7),
)
# Shown where a run has a number in them: not every run is of shifted or of long-tailed data.
SHIFTED = (
    ("accuracy_many", "many-shot", 10),
    ("accuracy_medium", "medium-shot", 10),
    ("accuracy_few", "few-shot", 10),
    ("corruption_accuracy_mean", "corrupted", 10),
    ("agreement_corrupted", "agr. corrupted", 11),
)
# What latencies and speed-ups are; under every table that shows them.
FOOTING = (
    "Latencies are medians over rounds in which all models took turns, each round's median divided by the "
    "teacher's pace in that round (its median there / its latency); speed-up is the teacher's latency / "
    "the model's. A figure is a dash where its 95 % interval, or the middle half of its rounds, spans more "
    "than half of it."
)
COUNTS = (
    ("params", "params", 2),
    ("params_nonzero", "non-zero", 4),
    ("macs", "MACs", 5),
    ("size_bytes", "size", 9),
)
# Where no more of the parameters than this are zero, nobody pruned them.
FEW_ZEROS = 0.01


def cost_of_front(summary: Summary) -> str | None:
    """Return the cost that trade-offs are judged by: CPU latency at batch 1, another latency, or MACs."""
    names = (*usual_latencies(summary.columns), "macs")
    return next((name for name in names if any(row.fact(name) is not None for row in summary.rows)), None)


def front_of(summary: Summary, metric: str, cost: str | None) -> list[bool | None]:
    """Return whether each row is on the Pareto front of its teacher.

    None where a number is missing, or a cost is only known to be at least so much.
    """
    directed = cost is not None and summary.columns[metric].direction != "none"
    if cost is None or not directed:
        return [None] * len(summary.rows)
    result: list[bool | None] = [None] * len(summary.rows)
    for teacher in summary.teacher_names:
        members = [index for index, row in enumerate(summary.rows) if row.teacher == teacher]
        values = [summary.rows[index].mean(metric) for index in members]
        costs = [summary.rows[index].fact(cost) for index in members]
        front = pareto_front(
            values,
            costs,
            value_direction=summary.columns[metric].direction,
            cost_direction=summary.columns[cost].direction,
        )
        for index, value, price, member in zip(members, values, costs, front, strict=True):
            result[index] = member if value is not None and price is not None else None
    return result


def main_table(
    summary: Summary, metric: str | None = None, baseline: str = CONTROL, *, repeats: bool = False
) -> Table:
    """Return the headline table: every (student, method), the teachers first, judged by ``metric``.

    With ``repeats`` it is of the controls that repeat a method with a random teacher, which are else left
    out: they are no result to choose from, and have no front. Raises UserError for an unknown metric or
    baseline.
    """
    metric = metric or summary.headline
    judged = compare_methods(summary, metric, baseline, repeats=repeats)
    claims = {claim.key: claim for claim in judged}
    summary = summary.repeats_alone() if repeats else summary.without_repeats()
    notes, cost = Notes(), None if repeats else cost_of_front(summary)
    decimals = numerals.percent_decimals(summary.test_size)
    shown = _measured_headings(summary, metric, cost)
    several = len(summary.teacher_names) > 1
    # Where no row has an interval, the legend says so once instead of a note at each number.
    marked = _any_interval(summary, metric)
    costs = read_costs(summary)
    lines = []
    for row, member in zip(summary.rows, front_of(summary, metric, cost), strict=True):
        n = row.metrics[metric].n
        failed = f"{row.failed} failed" if row.failed else ""
        seeds = Cell(str(n), {"n": n, "failed": row.failed}, sort=n, hint=failed)
        cells = [*identity_cells(row, several), seeds]
        for heading in shown:
            if heading.key == "difference":
                cells.append(
                    _difference_cell(claims.get(row.key), summary.columns[metric], baseline, notes, decimals)
                )
            elif heading.key == "pareto":
                cells.append(Cell(FRONT if member else "", {"pareto": member}, sort=int(bool(member))))
            else:
                column = summary.columns[heading.key]
                cell = _metric_cell(row, column, heading.key == metric, notes, decimals, marked)
                if heading.key == metric:
                    cell = _with_examples(cell, summary, row, column, decimals)
                cells.append(_as_bound(cell, row, heading.key, costs, notes))
        lines.append(Line(tuple(cells), teacher=row.role == "teacher"))
    headings = (*identity_headings(several), *shown)
    timed = [each.column for each in shown if each.column and each.column.is_timed and summary.has(each.key)]
    legend = (*_legend(summary, metric, cost, judged), *footing(timed, costs))
    of = f"on {summary.manifest['dataset']} (suite {summary.manifest['suite']})"
    title = f"{summary.columns[metric].title} and cost {of}"
    return Table(title, headings, tuple(lines), legend, notes.texts)


def identity_headings(several: bool) -> list[Heading]:
    """Return the headings of what a row is: teacher, where there are ``several``, student, method, seeds."""
    teacher = [Heading("teacher", "teacher", numeric=False)] if several else []
    student = Heading("student", "student", numeric=False)
    method = Heading("method", "method", numeric=False)
    return [*teacher, student, method, Heading("n", "n", help="seeds that the row rests on", importance=1)]


def identity_cells(row: Row, several: bool) -> list[Cell]:
    """Return the cells of what a row is, but for its seeds."""
    identity = {"role": row.role, "teacher": row.teacher, "student": row.student}
    return [
        *([Cell(row.teacher, sort=row.teacher)] if several else []),
        Cell(row.model, identity, sort=row.model),
        Cell(row.method or "(teacher)", {"method": row.method}, sort=row.method or ""),
    ]


def _measured_headings(summary: Summary, metric: str, cost: str | None) -> list[Heading]:
    def heading(name: str, title: str, importance: int) -> list[Heading]:
        column = summary.columns.get(name)
        if column is None or (name == metric and importance > 0):
            return []
        unit = numerals.unit(column)
        return [Heading(name, title, column.arrow, unit, importance, help=column.title, column=column)]

    column = summary.columns[metric]
    delta = Heading(
        "difference",
        "Δ",
        unit=numerals.difference_unit(column),
        help=f"difference of {column.title} from the baseline, paired by seed",
    )
    front = Heading("pareto", FRONT, importance=1, help="on the Pareto front", numeric=False)
    headings = [*heading(metric, short_title(column), 0), delta]
    quality = [(name_in(column.head, name), title, rank) for name, title, rank in QUALITY]
    if cost is not None and column.direction != "none":
        headings.append(front)
    if metric != summary.headline:
        headings += heading(summary.headline, short_title(summary.headline_column), 1)
    shifted = [(name_in(column.head, name), title, rank) for name, title, rank in SHIFTED]
    shifted = [entry for entry in shifted if summary.has(entry[0])]
    if cost is not None and (place := summary.columns[cost].place):
        headings += heading(cost, f"{place.device} b{place.batch} p50", 1)
        for other in summary.columns.values():
            if (other.quantity, other.place) == ("speedup", place):
                headings += heading(other.name, f"speed-up b{place.batch}", 4)
    for name, title, importance in (*COUNTS, *quality, *shifted):
        if name != "params_nonzero" or any(map(_is_pruned, summary.rows)):
            headings += heading(name, title, importance)
    return headings


def _is_pruned(row: Row) -> bool:
    """Return whether many of a row's parameters are zero; a few are by chance."""
    left, all_of_them = row.mean("params_nonzero"), row.mean("params")
    return left is not None and all_of_them is not None and left < (1 - FEW_ZEROS) * all_of_them


def _any_interval(summary: Summary, metric: str) -> bool:
    return any(row.metrics[metric].half_width is not None for row in summary.rows)


def _metric_cell(row: Row, column: Column, headline: bool, notes: Notes, decimals: int, marked: bool) -> Cell:
    name, interval = column.name, row.metrics[column.name]
    raw = {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
    if interval.mean is None:
        return Cell(numerals.DASH, raw, notes.number(interval.reason))
    half = interval.half_width
    hint = ""
    if interval.low is not None and interval.high is not None:
        bounds = (numerals.number(column, bound, decimals) for bound in (interval.low, interval.high))
        hint = f"95 % interval over seeds {' to '.join(bounds)}, n = {interval.n}"
    if headline:
        note = notes.number(interval.reason) if half is None and marked else None
        return Cell(
            numerals.with_interval(column, interval.mean, half, decimals), raw, note, interval.mean, hint
        )
    return Cell(numerals.number(column, interval.mean, decimals), raw, sort=interval.mean, hint=hint)


def _as_bound(cell: Cell, row: Row, name: str, costs: CostFiles, notes: Notes) -> Cell:
    """Return the cell of a cost as the bound that it is, with what was not counted; else as it stands."""
    if name not in BOUNDED:
        return cell
    bound = row.bound(name)
    raw = {**cell.raw, f"{name}_bound": bound}
    if bound is None or row.mean(name) is None:
        return replace(cell, raw=raw)
    what = costs.uncounted(row.teacher, row.model) or "operators without a rule"
    note = notes.number(f"a {bound} bound: {what} may multiply and could not be counted")
    return replace(cell, text=signed(cell.text, bound), raw=raw, note=note)


def footing(timed: Sequence[Column], costs: CostFiles) -> Iterator[str]:
    """Say what latencies and speed-ups rest on, and what disturbed them."""
    if timed:
        yield FOOTING
    disturbed = costs.disturbances(timed)
    if disturbed:
        yield f"The machine was not quiet meanwhile ({disturbed}); what that left without meaning is a dash."


def _with_examples(cell: Cell, summary: Summary, row: Row, column: Column, decimals: int) -> Cell:
    """Return the cell of the headline metric with its interval over test examples."""
    metric = column.name
    low, high, reason = example_interval(summary.outcomes, row, metric)
    raw = {
        f"{metric}_examples_low": low,
        f"{metric}_examples_high": high,
        f"{metric}_examples_reason": reason,
    }
    hint = cell.hint
    if low is not None and high is not None:
        bounds = " to ".join(numerals.number(column, bound, decimals) for bound in (low, high))
        hint = (
            f"{hint}; over test examples {bounds}" if hint else f"95 % interval over test examples {bounds}"
        )
    return replace(cell, raw={**cell.raw, **raw}, hint=hint)


def _difference_cell(
    claim: Comparison | None, column: Column, baseline: str, notes: Notes, decimals: int
) -> Cell:
    raw: dict[str, Any] = {"metric": column.name, "baseline": baseline}
    raw |= {f"difference{end}": getattr(claim, name, None) for end, name in ENDS.items()}
    raw |= {name: getattr(claim, name, None) for name in ("p", "p_holm", "verdict")}
    raw |= raw_evidence(claim)
    raw |= {f"difference_{name}": getattr(claim, name, None) for name in ("n", "reason")}
    if claim is None:
        return Cell("", raw)
    if claim.difference is None:
        return Cell(numerals.DASH, raw, notes.number(claim.reason))
    text = f"{numerals.difference(column, claim.difference, decimals)} {MARKS[claim.verdict]}".rstrip()
    return Cell(text, raw, notes.number(claim.reason), claim.difference, claim.verdict or "not tested")


def _legend(
    summary: Summary, metric: str, cost: str | None, comparisons: Sequence[Comparison]
) -> tuple[str, ...]:
    column = summary.columns[metric]
    words = ("higher", "lower") if column.direction == "none" else ("better", "worse")
    epoch = "the epoch that was best on validation" if column.epoch == "best" else "the last epoch"
    lines = [f"Values are means over n training seeds, of {epoch}, on {summary.test_size:,} test examples."]
    if _any_interval(summary, metric):
        lines.append("± is half the 95 % t interval of that mean.")
    elif summary.measured:
        lines.append("There is no ±: an interval needs at least two seeds.")
    tested = sum(comparison.p is not None for comparison in comparisons)
    if tested:
        lines.append(
            f"Δ is the paired difference from {comparisons[0].baseline}: ▲ {words[0]}, ▼ {words[1]} "
            f"(p < 0.05, Holm over {counted(tested, 'comparison')}), ○ no difference shown."
        )
    elif comparisons:
        lines.append(f"Δ is the paired difference from {comparisons[0].baseline}; none could be tested.")
    if cost is not None and column.direction != "none":
        lines.append(
            f"{FRONT} is on the Pareto front of {column.name} against {cost}, by the means, teacher included."
        )
    return tuple(lines)
