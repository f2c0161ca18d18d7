"""Accuracy by the severity of corruption: a panel a student, a line a method."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from kdbench.analysis.corruption import (
    SeverityCurve,
    corrupted_examples,
    corruption_names,
    severity_curves,
)
from kdbench.analysis.summary import Summary
from kdbench.report import captions, style
from kdbench.report.drawing_settings import INK
from kdbench.report.figures import NothingToDraw
from kdbench.report.registry import drawing

MOST_ACROSS = 6
# Of more methods a student, lines would hide each other.
MOST_METHODS = 10
# Methods are set side by side around each severity, so that their whiskers can be told apart.
SPREAD = 0.3


def title(summary: Summary) -> str:
    """Say what the figure shows."""
    return f"Top-1 accuracy by severity of corruption: {captions.subject(summary)}"


def caption(summary: Summary) -> str:
    """Say what lines, whiskers and severities mean."""
    names, examples = corruption_names(summary), corrupted_examples(summary)
    low, _ = _limits(_curves(summary))
    images = " to ".join(f"{count:,}" for count in examples)
    return captions.sentences(
        f"Mean top-1 accuracy over {len(names)} corruptions ({', '.join(names)}) of {images} test images, by "
        "severity; 0 is the same images clean. Severities of different corruptions are not equally hard.",
        "The solid black line with stars is the teacher.",
        captions.whiskers(summary),
        style.rows_shown(summary, MOST_METHODS * len(summary.student_names))[1],
        captions.truncation(low, summary.headline_column, "accuracy"),
    )


@drawing("corruption", order=60, title=title, caption=caption)
def draw(summary: Summary) -> Figure:
    """Draw a panel a student; raises NothingToDraw where no student was shown corrupted images."""
    curves = _curves(summary)
    students = list(dict.fromkeys(curve.student for curve in curves if curve.student is not None))
    if not students:
        raise NothingToDraw("no student was shown corrupted images")
    across = min(len(students), 4 if len(students) <= 12 else MOST_ACROSS)
    down = math.ceil(len(students) / across)
    methods = style.method_styles(summary)
    shown = [method for method in methods if any(curve.method == method for curve in curves)]
    figure = style.new_figure(
        title(summary), width=max(2.9 * across, 7.5) + 0.4, height=2.5 * down + 1.0 + 0.06 * len(shown)
    )
    grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    panels = list(grid.flat)
    handles = [_handle(name, methods[name]) for name in shown]
    teacher = [curve for curve in curves if curve.student is None]
    if teacher:
        handles.append(Line2D([], [], color=INK, marker=style.TEACHER_MARKER, label="teacher"))
    style.legend_beside(figure, panels[len(students) :], handles)
    for axes, student in zip(panels, students, strict=False):
        for curve in teacher:
            _line(axes, curve, 0.0, color=INK, marker=style.TEACHER_MARKER, markersize=7)
        for place, method in enumerate(shown):
            offset = SPREAD * ((place + 0.5) / len(shown) - 0.5)
            for curve in curves:
                if (curve.student, curve.method) == (student, method):
                    look = methods[method]
                    _line(
                        axes,
                        curve,
                        offset,
                        marker="o",
                        markersize=4,
                        linestyle=look.dashes,
                        **look.marker_face,
                    )
        axes.set_title(student, loc="left", fontweight="bold")
        axes.tick_params(labelbottom=True)
    panels[0].set_ylim(*_limits(curves))
    panels[0].set_xticks(sorted({severity for curve in curves for severity in curve.accuracy}))
    for axes in grid[:, 0]:
        axes.set_ylabel("top-1 accuracy (%)")
    for axes in panels[max(0, len(students) - across) : len(students)]:
        axes.set_xlabel("severity (0: clean)")
    return figure


def _curves(summary: Summary) -> list[SeverityCurve]:
    """Return the teacher's curve, and those of the students' rows that the figure can hold."""
    rows, _ = style.rows_shown(summary, MOST_METHODS * len(summary.student_names))
    shown = {(row.student, row.method) for row in rows} | {(None, None)}
    return [curve for curve in severity_curves(summary) if (curve.student, curve.method) in shown]


def _line(axes: Axes, curve: SeverityCurve, offset: float, **look: object) -> None:
    points = [point for point in curve.accuracy.items() if point[1].mean is not None]
    at = [severity + offset for severity, _ in points]
    axes.plot(at, [100 * (interval.mean or 0.0) for _, interval in points], linewidth=1.2, **look)  # type: ignore[arg-type]
    for x, (_, interval) in zip(at, points, strict=True):
        if interval.low is not None and interval.high is not None:
            low, high = 100 * max(interval.low, 0.0), 100 * min(interval.high, 1.0)
            axes.vlines(x, low, high, color=str(look["color"]), linewidth=0.9)


def _limits(curves: list[SeverityCurve]) -> tuple[float, float]:
    """Return limits in percent that hold every whisker, within 0 and 100."""
    ends = [
        100 * end
        for curve in curves
        for interval in curve.accuracy.values()
        for end in (interval.mean, interval.low, interval.high)
        if end is not None
    ]
    low, high = max(0.0, min(ends)), min(100.0, max(ends))
    margin = 0.05 * max(high - low, 2.0)
    return max(0.0, low - margin), min(100.0 + margin, high + margin)


def _handle(method: str, look: style.MethodStyle) -> Line2D:
    return Line2D([], [], linestyle=look.dashes, marker="o", markersize=4, label=method, **look.marker_face)
