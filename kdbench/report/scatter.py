"""The interactive scatter of the page: accuracy against a cost that the reader chooses."""

from __future__ import annotations

import json
from typing import Any

import plotly.graph_objects as go

from kdbench.analysis.costs import usual_latencies
from kdbench.analysis.rows import Row
from kdbench.analysis.summary import Summary
from kdbench.column import Column
from kdbench.printable import printable
from kdbench.report import numerals, style
from kdbench.report.columns import short_title
from kdbench.report.drawing_settings import FAINT, GRID, INK

COUNTS = ("params", "macs", "size_bytes")
# plotly's names for the markers of the figures.
SYMBOLS = {
    "o": "circle",
    "s": "square",
    "^": "triangle-up",
    "D": "diamond",
    "v": "triangle-down",
    "P": "cross",
    "X": "x",
    "h": "hexagon",
    "p": "pentagon",
    "<": "triangle-left",
    ">": "triangle-right",
}
# What they add for the faces of the figures; there is no half-filled marker.
SUFFIXES = {"full": "", "open": "-open", "left": "-open-dot"}


def scatter_json(summary: Summary) -> str | None:
    """Return the chart as JSON: a plotly figure, and for each cost its title and the x of every trace.

    ``title`` is plain text, ``axis`` the same for plotly, which reads HTML. The first cost is
    the one that is shown at the start. As in the figures, random teachers are left out. None where there is
    nothing to show.
    """
    summary = summary.without_repeats()
    rows = [row for row in summary.rows if row.mean(summary.headline) is not None]
    costs = _costs(summary)
    if not costs or not any(row.role == "student" for row in rows):
        return None
    traces = [("teacher", [row for row in rows if row.role == "teacher"])]
    traces += [(method, [row for row in rows if row.method == method]) for method in summary.methods]
    traces = [(name, members) for name, members in traces if members]
    choices = [
        {
            "title": style.cost_label(summary.columns[cost]),
            "axis": _escaped(style.cost_label(summary.columns[cost])),
            "name": cost,
            "formats": dict.fromkeys(
                ("tickformat", "hoverformat"), ".3~g" if summary.columns[cost].scale == "ms" else ".3~s"
            ),
            "x": [[_positive(row.fact(cost)) for row in members] for _, members in traces],
        }
        for cost in costs
    ]
    figure = go.Figure(
        [_trace(summary, name, members) for name, members in traces], _layout(summary.headline_column)
    )
    content = {"figure": json.loads(figure.to_json()), "costs": choices}
    # Inside a script element no text may look like the end of it.
    return json.dumps(content, allow_nan=False).replace("<", "\\u003c")


def _costs(summary: Summary) -> list[str]:
    return [
        name
        for name in (*usual_latencies(summary.columns), *COUNTS)
        if name in summary.columns and any(map(_positive, (row.fact(name) for row in summary.rows)))
    ]


def _positive(value: float | None) -> float | None:
    return value if value is not None and value > 0 else None


def _layout(column: Column) -> dict[str, Any]:
    axis = {"gridcolor": GRID, "linecolor": FAINT, "zeroline": False, "automargin": True}
    return {
        "template": None,
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": INK},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "height": 480,
        "margin": {"l": 60, "r": 20, "t": 20, "b": 50},
        "xaxis": {**axis, "type": "log", "dtick": "D2"},
        "yaxis": {**axis, "title": {"text": _escaped(style.axis_label(column))}},
        "legend": {"orientation": "h", "y": -0.2, "yanchor": "top"},
        "hovermode": "closest",
    }


def _trace(summary: Summary, name: str, members: list[Row]) -> go.Scatter:
    looks, markers = style.method_styles(summary), style.kind_markers(summary)
    color = INK if name == "teacher" else looks[name].color
    face = "full" if name == "teacher" else looks[name].face
    shapes = ["star" if row.student is None else SYMBOLS[markers[row.student]] for row in members]
    symbols = [f"{shape}{SUFFIXES[face]}" for shape in shapes]
    column = summary.headline_column
    factor, halves = style.drawn(column), [row.metrics[column.name].half_width for row in members]
    return go.Scatter(
        name=_escaped(name),
        mode="markers",
        y=[factor * (row.mean(column.name) or 0.0) for row in members],
        text=[_hover(row, summary) for row in members],
        hovertemplate="%{text}<br>%{xaxis.title.text}: %{x}<extra></extra>",
        marker={"color": color, "size": 14 if name == "teacher" else 10, "symbol": symbols},
        error_y={
            "type": "data",
            "array": [None if half is None else factor * half for half in halves],
            "color": color,
            "thickness": 1.2,
            "width": 3,
        },
    )


def _hover(row: Row, summary: Summary) -> str:
    column = summary.headline_column
    interval = row.metrics[column.name]
    decimals = numerals.percent_decimals(summary.test_size)
    value = numerals.with_interval(column, interval.mean, interval.half_width, decimals)
    value = f"{value} {numerals.unit(column)}".rstrip()
    what = (
        f"{row.student}, {row.method}, teacher {row.teacher}" if row.student else f"{row.teacher} (teacher)"
    )
    return f"{_escaped(what)}<br>{_escaped(f'{short_title(column)} {value}')}, n = {interval.n}"


def _escaped(text: str) -> str:
    # plotly reads a subset of HTML in its texts.
    return printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
