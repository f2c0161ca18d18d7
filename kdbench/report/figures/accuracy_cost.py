"""Accuracy against each cost, with the Pareto front: what a model costs for what it can do."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from kdbench.analysis.costs import usual_latencies
from kdbench.analysis.pareto import pareto_front
from kdbench.analysis.rows import Row
from kdbench.analysis.summary import Summary
from kdbench.column import Column
from kdbench.report import captions, style
from kdbench.report.drawing_settings import INK
from kdbench.report.figures import NothingToDraw
from kdbench.report.labels import Label, Mark, place
from kdbench.report.registry import drawing

COUNTS = ("macs", "params", "size_bytes")
# More points than this in a panel would hide each other.
CROWD = 64
# Of more models than this only those on the front are named.
NAMED = 13
ACROSS = 3


def title(summary: Summary) -> str:
    """Say what the figure shows."""
    return f"{summary.headline_column.title} against cost: {captions.subject(summary)}"


def caption(summary: Summary) -> str:
    """Say what the axes, marks and whiskers mean."""
    rows, thinned = _rows(summary)
    column = summary.headline_column
    better = "down" if column.direction == "lower" else "up"
    low, _ = style.limits(rows, column)
    return captions.sentences(
        f"Test {column.label}, last epoch, against each cost (log scale); {better} and left is better.",
        captions.whiskers(summary),
        thinned,
        "The line is the Pareto front of the means, teacher included; it does not say that its steps are "
        "beyond chance.",
        "Methods that cost the same are set side by side around their common cost.",
        captions.truncation(low, column),
        captions.examples(summary),
        _bounds(summary),
        _left_out(summary),
    )


@drawing("accuracy_cost", order=10, title=title, caption=caption)
def draw(summary: Summary) -> Figure:
    """Draw one panel a cost; raises NothingToDraw where no accuracy or no cost is known."""
    (rows, _), costs = _rows(summary), _costs(summary)
    if not costs or not any(row.role == "student" for row in rows):
        noun = captions.noun(summary.headline_column)
        article = "an" if noun[0] in "aeiou" else "a"
        raise NothingToDraw(f"no student has both {article} {noun} and a cost")
    across = min(ACROSS, len(costs))
    down = math.ceil(len(costs) / across)
    figure = style.new_figure(title(summary), width=4.1 * across + 0.3, height=3.5 * down + 1.1)
    grid = figure.subplots(down, across, squeeze=False, sharey=True)
    panels = list(grid.flat)
    front = Line2D([], [], color=INK, linewidth=1.0, label="Pareto front")
    style.legend_beside(figure, panels[len(costs) :], [*style.legend_handles(summary, rows), front])
    panels = panels[: len(costs)]
    groups = [_panel(axes, summary, rows, cost) for axes, cost in zip(panels, costs, strict=True)]
    for axes in grid[:, 0]:
        axes.set_ylabel(style.axis_label(summary.headline_column))
    for axes in panels:
        axes.tick_params(labelleft=True)
    figure.draw_without_rendering()
    for axes, (labels, marks) in zip(panels, groups, strict=True):
        place(axes, labels, marks)
    return figure


def _rows(summary: Summary) -> tuple[tuple[Row, ...], str]:
    teachers = tuple(row for row in summary.teachers if row.mean(summary.headline) is not None)
    students, thinned = style.rows_shown(summary, CROWD)
    return teachers + students, thinned


def _costs(summary: Summary) -> list[str]:
    return [name for name in _wanted(summary) if any((row.fact(name) or 0) > 0 for row in summary.measured)]


def _wanted(summary: Summary) -> list[str]:
    return [name for name in (*COUNTS, *usual_latencies(summary.columns)) if name in summary.columns]


def _left_out(summary: Summary) -> str:
    costs = _costs(summary)
    wanted = _wanted(summary)
    missing = [name for name in summary.columns if name in wanted and name not in costs]
    reasons = dict.fromkeys(why for name in missing for why in summary.footnotes.get(name, ("not recorded",)))
    return f"Not measured: {', '.join(missing)} ({'; '.join(reasons)})." if missing else ""


def _bounds(summary: Summary) -> str:
    names = dict.fromkeys(row.model for row in summary.rows if row.bound("macs"))
    return (
        f"Without a point, since not all of their multiply-adds are counted: {', '.join(names)}."
        if names
        else ""
    )


def _panel(axes: Axes, summary: Summary, rows: Sequence[Row], cost: str) -> tuple[list[Label], list[Mark]]:
    points = [(row, price) for row in rows if (price := row.fact(cost)) is not None and price > 0]
    prices = [price for _, price in points]
    low, high = min(prices), max(prices)
    pad = max((high / low) ** 0.09, 1.25)
    style.log_cost_axis(axes, summary.columns[cost], low / pad, high * pad)
    axes.set_ylim(*style.limits(rows, summary.headline_column))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10]))
    axes.set_xlabel(style.cost_label(summary.columns[cost]))
    labels, marks = _points(axes, summary, points)
    members, risers = _front(axes, points, summary.headline_column)
    if len(labels) > NAMED:
        labels = [label for label in labels if label.text in members]
    return labels, [*marks, *risers]


def _front(axes: Axes, points: Sequence[tuple[Row, float]], column: Column) -> tuple[set[str], list[Mark]]:
    """Draw the front as steps; return its models, and its upright parts, which labels must not cross."""
    values = [row.mean(column.name) for row, _ in points]
    prices = [price for _, price in points]
    members = pareto_front(values, prices, value_direction=column.direction)
    steps = sorted(
        (price, style.drawn(column) * value)
        for price, value, member in zip(prices, values, members, strict=True)
        if member and value is not None
    )
    _, right = axes.get_xlim()
    steps.append((right, steps[-1][1]))
    axes.step(*zip(*steps, strict=True), where="post", color=INK, linewidth=1.0, zorder=2)
    models = {row.model for (row, _), member in zip(points, members, strict=True) if member}
    return models, [Mark.upright(x, before, after) for (_, before), (x, after) in itertools.pairwise(steps)]


def _points(
    axes: Axes, summary: Summary, points: Sequence[tuple[Row, float]]
) -> tuple[list[Label], list[Mark]]:
    methods = style.method_styles(summary)
    markers = style.kind_markers(summary)
    column = summary.headline_column
    factor = style.drawn(column)
    marks: list[Mark] = []
    groups: dict[str, list[Mark]] = {}
    for (row, _), x in zip(points, _spread(points, summary, axes), strict=True):
        interval = row.metrics[column.name]
        assert interval.mean is not None
        y = factor * interval.mean
        low, high = y, y
        look = methods[row.method].marker_face if row.method is not None else {"color": INK}
        if interval.low is not None and interval.high is not None:
            low, high = factor * interval.low, factor * interval.high
            axes.vlines(x, low, high, color=look["color"], linewidth=1.1, zorder=3)
        marker = markers[row.student] if row.student is not None else style.TEACHER_MARKER
        size = 6 if row.role == "student" else 12
        axes.plot([x], [y], marker=marker, markersize=size, zorder=4, **look)
        mark = Mark.upright(x, low, high)
        marks.append(mark)
        groups.setdefault(row.model, []).append(mark)
    return [_label(name, group) for name, group in groups.items()], marks


def _label(name: str, group: Sequence[Mark]) -> Label:
    x = math.exp(sum(math.log(mark.left) for mark in group) / len(group))
    return Label(name, x, min(mark.low for mark in group), max(mark.high for mark in group))


def _spread(points: Sequence[tuple[Row, float]], summary: Summary, axes: Axes) -> list[float]:
    """Set points of equal cost side by side, no wider than a third of the way to the next cost."""
    left, right = axes.get_xlim()
    distinct = sorted({price for _, price in points})
    gaps = [math.log(b / a) for a, b in itertools.pairwise(distinct) if b / a > 1.02]
    room = min([0.07 * math.log(right / left), *(0.6 * gap for gap in gaps)])
    order = {method: index for index, method in enumerate(summary.methods)}
    centre, steps = (len(order) - 1) / 2, max(len(order) - 1, 1)
    return [
        price * math.exp(room * (order[row.method] - centre) / steps) if row.method is not None else price
        for row, price in points
    ]
