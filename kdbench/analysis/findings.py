"""What a run answers: its best student, the cheapest near it, and what they gain and lose."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kdbench.analysis.comparison import ALPHA, CONTROL, Comparison, compare_methods, compare_rows
from kdbench.analysis.costs import COUNTS, read_costs, usual_costs
from kdbench.analysis.intervals import sampling_half_width
from kdbench.analysis.outcomes import SHARES
from kdbench.analysis.rows import Row
from kdbench.analysis.summary import Summary
from kdbench.analysis.teachers import against_teachers


@dataclass(frozen=True)
class Standing:
    """A student's row beside its teacher: the difference, and how many times its cost the teacher's is."""

    row: Row
    against: Comparison
    savings: Mapping[str, float]


@dataclass(frozen=True)
class Findings:
    """What a run shows by one metric; None is what it does not show.

    ``best`` is the row of the highest mean (the lowest, where lower is better) of ``judged`` rows, ``tied``
    the others of this mean. Costs are compared among the students of its teacher, by ``cost``: the first
    column that all their rows have a figure of; ``noise`` says what disturbed it. Of the rows that cost less
    than the best and less than every better one, ``near`` is the cheapest that ``nearest`` does not tell from
    the best, which are then ``alike``, and where there is none it is the best of them. ``cheapest`` is the
    best of the rows that cost least. ``overshadowed``: by the means no student of this teacher is better than
    it, and none is cheaper. ``methods`` are the comparisons with ``baseline``.
    """

    metric: str
    baseline: str
    methods: tuple[Comparison, ...]
    judged: int = 0
    best: Standing | None = None
    tied: tuple[Row, ...] = ()
    cost: str | None = None
    noise: str | None = None
    near: Standing | None = None
    nearest: Comparison | None = None
    alike: bool = False
    cheapest: Standing | None = None
    overshadowed: bool = False


def find(summary: Summary, metric: str | None = None, baseline: str = CONTROL) -> Findings:
    """Return what a run shows by ``metric``, by default its headline.

    Rows with a random teacher are controls and left out. By a metric that has no direction or
    is a cost itself no row is best, and only ``methods`` are found.

    Raises UserError for an unknown metric or baseline.
    """
    metric = metric or summary.headline
    result = Findings(metric, baseline, tuple(compare_methods(summary, metric, baseline)))
    column = summary.columns[metric]
    rows = [row for row in summary.without_repeats().students if row.mean(metric) is not None]
    if not rows or column.direction == "none" or column.family == "cost":
        return result
    sign = -1.0 if column.direction == "lower" else 1.0
    values = {row.key: sign * (row.mean(metric) or 0.0) for row in rows}
    # Means of the same numbers in another order differ by their rounding.
    top = max(values.values())
    leaders = [row for row in rows if math.isclose(values[row.key], top, rel_tol=1e-12)]
    family = [row for row in rows if row.teacher == leaders[0].teacher]
    cost = next(
        (name for name in usual_costs(summary.columns) if all(_figure(row, name) for row in family)), None
    )
    prices = {row.key: _figure(row, cost) or 0.0 if cost else 0.0 for row in family}
    # Of those that share the best mean the cheapest, and of those that cost the same the best.
    ranked = sorted(family, key=lambda row: (prices[row.key], -values[row.key]))
    best = next(row for row in ranked if row in leaders)
    against = {comparison.key: comparison for comparison in against_teachers(summary, metric)}

    def standing(row: Row) -> Standing:
        return Standing(row, against[row.key], dict(savings(summary, row)))

    result = replace(
        result,
        judged=len(rows),
        best=standing(best),
        tied=tuple(row for row in leaders if row is not best),
    )
    if cost is None:
        return result
    result = replace(
        result,
        cost=cost,
        noise=read_costs(summary).disturbances([summary.columns[cost]]),
        overshadowed=_overshadowed(summary, family, cost, metric, sign),
    )
    steps = [row for row in _front(ranked, values) if prices[row.key] < prices[best.key]]
    if not steps:
        return result
    result = replace(result, cheapest=standing(steps[0]))
    compared = [(row, compare_rows(summary, row, best, metric, "the best student")) for row in steps]
    compared = [(row, comparison) for row, comparison in compared if comparison.difference is not None]
    if not compared:
        return result
    share = column.quantity in SHARES
    alike = [pair for pair in compared if share and not _told_apart(pair[1], best, summary, sign)]
    row, nearest = alike[0] if alike else compared[-1]
    return replace(result, near=standing(row), nearest=nearest, alike=bool(alike))


def _front(ranked: Sequence[Row], values: Mapping[Any, float]) -> Iterator[Row]:
    """Yield the rows that are better than all that cost as much or less, of rows from the cheapest on."""
    best = -math.inf
    for row in ranked:
        if values[row.key] > best:
            best = values[row.key]
            yield row


def _figure(row: Row, column: str) -> float | None:
    """Return a row's cost, or None where it is not known or only a bound."""
    value = row.mean(column)
    return value if value is not None and value > 0 and row.bound(column) is None else None


def savings(summary: Summary, row: Row) -> Iterator[tuple[str, float]]:
    """Yield teacher's cost / row's cost: of the first latency that is known, of MACs, and of parameters."""
    teacher = next((other for other in summary.teachers if other.teacher == row.teacher), None)
    costs = [name for name in usual_costs(summary.columns) if teacher and _figure(teacher, name)]
    costs = [name for name in costs if _figure(row, name)]
    latencies = [name for name in costs if name not in COUNTS]
    for name in (*latencies[:1], *(name for name in ("macs", "params") if name in costs)):
        ours, theirs = row.mean(name), teacher.mean(name) if teacher else None
        assert ours is not None and theirs is not None
        yield name, theirs / ours


def _overshadowed(summary: Summary, rows: Sequence[Row], cost: str, metric: str, sign: float) -> bool:
    teacher = next((row for row in summary.teachers if row.teacher == rows[0].teacher), None)
    if teacher is None:
        return False
    top, price = teacher.mean(metric), _figure(teacher, cost)
    if top is None or price is None:
        return False
    better = any(sign * (row.mean(metric) or 0.0) > sign * top for row in rows)
    return not better and all((_figure(row, cost) or 0.0) >= price for row in rows)


def _told_apart(comparison: Comparison, best: Row, summary: Summary, sign: float) -> bool:
    """Return whether a cheaper row is told from the best as the worse of the two.

    That is so where the paired t test over seeds tells, and where the test examples do: by McNemar's test of
    the models as they were trained; without stored predictions where the difference of the shares a and b is
    beyond √(w_a² + w_b²), with the half-widths w of their Wilson intervals. Without the second part the row
    whose seeds spread most would pass for as good as the best. The p-values are not corrected: that would
    let more pass.
    """
    difference, mean = comparison.difference, best.mean(comparison.metric)
    assert difference is not None and mean is not None
    if sign * difference >= 0:
        return False
    if comparison.p is not None and comparison.p < ALPHA:
        return True
    if comparison.examples.p is not None:
        return comparison.examples.p < ALPHA
    accuracies = (mean, min(max(mean + difference, 0.0), 1.0))
    return abs(difference) > math.hypot(*(sampling_half_width(a, summary.test_size) for a in accuracies))
