"""What to ship: of the students that keep within limits the best, or the cheapest that loses little."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from kdbench.analysis.comparison import Comparison, compare_rows, corrected
from kdbench.analysis.costs import usual_costs
from kdbench.analysis.rows import Key, Row
from kdbench.analysis.summary import Summary
from kdbench.analysis.teachers import against_teacher
from kdbench.column import unknown_column
from kdbench.errors import UserError

# How sure it is that a loss is under what may be lost: its 95 % interval ends below, only begins below, or
# there is no interval.
Sureness = Literal["shown", "not excluded", "not tested"]


@dataclass(frozen=True)
class Limit:
    """A column that must be no more, or no less, than so much."""

    column: str
    side: Literal["max", "min"]
    value: float

    def excess(self, value: float) -> float:
        """Return by how much a value is beyond the limit, as a share of it; 0 where it keeps within."""
        beyond = value - self.value if self.side == "max" else self.value - value
        # A mean of equal numbers differs from them by its rounding.
        if math.isclose(value, self.value, rel_tol=1e-9):
            return 0.0
        return max(beyond, 0.0) / (abs(self.value) or 1.0)


@dataclass(frozen=True)
class Miss:
    """A limit that a row is beyond, or of which nothing is known: then the value is None, with the reason."""

    limit: Limit
    value: float | None
    reason: str | None = None

    @property
    def size(self) -> float:
        """By how much it is beyond, as a share of the limit; infinite where nothing is known."""
        return math.inf if self.value is None else self.limit.excess(self.value)


@dataclass(frozen=True)
class Choice:
    """What was picked of a run, and why.

    Of ``judged`` rows ``fitting`` keep within the limits, the best by ``metric`` first. ``row`` is the one to
    ship: the first of them, or with ``within`` the one of the lowest ``cost`` whose loss against the first is
    not known to be as much as ``within``; ``loss`` is then the comparison with it, ``sureness`` how sure that
    is, and ``loss_interval`` the interval that tells. ``runner_up`` is the next of ``fitting``: the first
    that is not ``row``. Its comparison has the plain two-sided p-value: to say that the winner is ahead of
    the runner-up needs no correction for having looked which they are (Hung and Fithian, Annals of Statistics
    2019, for such families of one parameter). Where no row fits, ``row`` is None and ``nearest`` the one
    whose largest miss is the smallest.
    """

    metric: str
    limits: tuple[Limit, ...]
    judged: int
    fitting: tuple[Row, ...] = ()
    row: Row | None = None
    against_teacher: Comparison | None = None
    runner_up: Row | None = None
    against_runner_up: Comparison | None = None
    within: float | None = None
    cost: str | None = None
    loss: Comparison | None = None
    loss_interval: tuple[float, float] | None = None
    sureness: Sureness | None = None
    nearest: Row | None = None
    misses: tuple[Miss, ...] = ()


def choose(
    summary: Summary, limits: Sequence[Limit] = (), by: str | None = None, within: float | None = None
) -> Choice:
    """Return which student of a run to ship.

    A row's figures are means over its seeds; one that is not known, or only as a bound, keeps within no
    limit. ``by`` is by default the headline of the run; ``within`` is in its unit (a proportion for shares,
    so 0.01 is one point). The cost that ``within`` goes by is the first that ``limits`` cap, else the first
    of the usual ones that all rows have.

    Rows with a random teacher are controls and left out; a teacher itself is what its students are compared
    with and none of them.

    Raises UserError for a column that the run lacks or that has no better side, a limit or a ``within`` that
    is no number, and a run without a finished student.
    """
    metric = by or summary.headline
    for name in (metric, *(limit.column for limit in limits)):
        if name not in summary.columns:
            raise unknown_column(name, summary.columns)
    column = summary.columns[metric]
    if column.direction == "none":
        raise UserError(f"no {metric} is better than another: pick by another column, such as top1.")
    if any(not math.isfinite(limit.value) for limit in limits):
        raise UserError("a limit must be a number.")
    if within is not None and not (math.isfinite(within) and within >= 0):
        raise UserError(f"--within is {within}: say what may be lost as a number from 0 on.")
    rows = [row for row in summary.without_repeats().measured if row.mean(metric) is not None]
    if not rows:
        raise UserError(f"{summary.run.path} has no finished student with a value of {metric}.")
    sign = -1.0 if column.direction == "lower" else 1.0
    misses = {row.key: tuple(_misses(row, limits)) for row in rows}
    # Of equal rows the cheaper one is the better one.
    price = _prices(summary, rows, limits, metric)
    fitting = [row for row in rows if not misses[row.key]]
    fitting.sort(key=lambda row: (-sign * (row.mean(metric) or 0.0), price.of(row)))
    if not fitting:
        nearest = min(rows, key=lambda row: max(miss.size for miss in misses[row.key]))
        return Choice(metric, tuple(limits), len(rows), nearest=nearest, misses=misses[nearest.key])
    row, loss, interval, sureness = fitting[0], None, None, None
    if within is not None:
        if price.column is None:
            raise UserError("--within picks the cheapest, and no cost is known of every student.")
        row, loss, interval, sureness = _cheapest_within(summary, fitting, price, metric, within)
    runner_up = next((other for other in fitting if other is not row), None)
    return Choice(
        metric,
        tuple(limits),
        len(rows),
        tuple(fitting),
        row,
        against_teacher(summary, row, metric),
        runner_up,
        _compared(summary, row, runner_up, metric) if runner_up else None,
        within,
        price.column if within is not None else None,
        loss,
        interval,
        sureness,
    )


@dataclass(frozen=True)
class _Prices:
    """What rows cost, by one column; all cost the same where none is known of all."""

    column: str | None
    figures: Mapping[Key, float]

    def of(self, row: Row) -> float:
        return self.figures.get(row.key, 0.0)


def _prices(summary: Summary, rows: Sequence[Row], limits: Sequence[Limit], metric: str) -> _Prices:
    capped = [limit.column for limit in limits if limit.side == "max" and _is_cost(summary, limit.column)]
    for name in (*capped, *usual_costs(summary.columns)):
        figures = {row.key: row.mean(name) for row in rows if row.bound(name) is None}
        known = {key: value for key, value in figures.items() if value is not None}
        if name != metric and len(known) == len(rows):
            return _Prices(name, known)
    return _Prices(None, {})


def _is_cost(summary: Summary, name: str) -> bool:
    column = summary.columns[name]
    return column.family == "cost" and column.direction == "lower"


def _misses(row: Row, limits: Sequence[Limit]) -> Iterator[Miss]:
    for limit in limits:
        value = row.mean(limit.column)
        if value is None:
            yield Miss(limit, None, "; ".join(row.reasons.get(limit.column, ())) or "not recorded")
        elif bound := row.bound(limit.column):
            yield Miss(limit, None, f"only a {bound} bound is known")
        elif limit.excess(value):
            yield Miss(limit, value)


def _compared(summary: Summary, row: Row, other: Row, metric: str) -> Comparison:
    assert other.student is not None
    comparison = compare_rows(summary, row, other, metric, f"{other.student} by {other.method}")
    return corrected([comparison], summary.columns[metric].direction)[0]


def _cheapest_within(
    summary: Summary, fitting: Sequence[Row], price: _Prices, metric: str, within: float
) -> tuple[Row, Comparison | None, tuple[float, float] | None, Sureness | None]:
    """Return the cheapest row whose loss against the first may be under ``within``, the loss, and how sure.

    The interval is that over seeds and test examples, else that over seeds, else that over test examples.
    """
    best = fitting[0]
    sign = -1.0 if summary.columns[metric].direction == "lower" else 1.0
    for row in sorted(fitting, key=price.of):
        if row is best or price.of(row) >= price.of(best):
            continue
        comparison = _compared(summary, row, best, metric)
        if comparison.difference is None or -sign * comparison.difference >= within:
            continue
        ends = _interval(comparison)
        if ends is None:
            return row, comparison, None, "not tested"
        most = max(-sign * end for end in ends)
        return row, comparison, ends, "shown" if most < within else "not excluded"
    return best, None, None, None


def _interval(comparison: Comparison) -> tuple[float, float] | None:
    """Return the widest-reaching 95 % interval of a difference that there is."""
    examples = comparison.examples
    for low, high in (
        (examples.both_low, examples.both_high),
        (comparison.low, comparison.high),
        (examples.low, examples.high),
    ):
        if low is not None and high is not None:
            return low, high
    return None
