"""Agreement with the teacher against accuracy: is it transfer, or only accuracy?"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from kdbench.analysis.comparison import CONTROL
from kdbench.analysis.intervals import Interval
from kdbench.analysis.rows import Row
from kdbench.analysis.summary import Summary
from kdbench.report import captions, style
from kdbench.report.drawing_settings import FAINT
from kdbench.report.figures import NothingToDraw
from kdbench.report.labels import Label, Mark, place
from kdbench.report.registry import drawing

AGREEMENT = "agreement"
CROWD = 64
NAMED = 13


def title(summary: Summary) -> str:
    """Say what the figure shows."""
    return f"Fidelity against accuracy: {captions.subject(summary)}"


def caption(summary: Summary) -> str:
    """Say what the axes, marks and whiskers mean."""
    rows, thinned = style.rows_shown(summary, CROWD)
    columns = (summary.headline_column, summary.columns[AGREEMENT])
    lows = [style.limits(rows, column)[0] for column in columns]
    return captions.sentences(
        "Left: share of test examples on which student and teacher predict the same class. It rises with "
        "accuracy by itself: the dashed line is what two models of these accuracies would show if their "
        "errors were independent and spread evenly over the wrong classes.",
        "Right: error consistency (Cohen's κ of being right), which takes the effect of accuracy out: 0 is "
        "what independent errors give, 1 is right and wrong on the same examples."
        if summary.has("error_consistency")
        else "",
        f"Thin lines lead from {CONTROL} to the other methods of the same student."
        if CONTROL in summary.methods
        else "",
        captions.whiskers(summary),
        thinned,
        captions.truncation(lows[0], columns[0]),
        captions.truncation(lows[1], columns[1], AGREEMENT),
        captions.examples(summary),
    )


@drawing("agreement", order=20, title=title, caption=caption)
def draw(summary: Summary) -> Figure:
    """Draw both panels; raises NothingToDraw where no student has an agreement."""
    rows = tuple(r for r in style.rows_shown(summary, CROWD)[0] if r.mean(AGREEMENT) is not None)
    if not rows:
        raise NothingToDraw("no student has both an accuracy and an agreement with the teacher")
    both = any(row.mean("error_consistency") is not None for row in rows)
    figure = style.new_figure(title(summary), width=11.5 if both else 6.5, height=5.2)
    panels = list(figure.subplots(1, 2 if both else 1, squeeze=False).flat)
    chance = Line2D([], [], color=FAINT, linestyle="--", linewidth=1.0, label="independent errors")
    style.legend_below(figure, [*style.legend_handles(summary, rows), chance])
    labels, marks = _points(panels[0], summary, rows, AGREEMENT)
    panels[0].set_ylabel("agreement with the teacher (%)")
    panels[0].set_ylim(*style.limits(rows, summary.columns[AGREEMENT]))
    judge = summary.headline_column
    for axes in panels:
        axes.set_xlim(*style.limits(rows, judge))
        axes.set_xlabel(style.axis_label(judge, " of the student"))
    _independent(panels[0], summary)
    placements = [(panels[0], labels, marks)]
    if both:
        placements.append((panels[1], *_points(panels[1], summary, rows, "error_consistency")))
        panels[1].set_ylabel("error consistency (κ)")
        panels[1].axhline(0.0, color=FAINT, linestyle="--", linewidth=1.0, zorder=1)
        panels[1].margins(y=0.12)
        low, high = panels[1].get_ylim()
        panels[1].set_ylim(max(low, -1.05), min(high, 1.05))
    figure.draw_without_rendering()
    for axes, names, taken in placements:
        if len(names) <= NAMED:
            place(axes, names, taken)
    return figure


def _independent(axes: Axes, summary: Summary) -> None:
    """Draw a_t·a_s + (1 − a_t)(1 − a_s)/(K − 1), the agreement of models whose errors are independent."""
    teacher = next((row.mean("top1") for row in summary.teachers), None)
    if teacher is None or summary.headline != "top1":
        return
    others = len(summary.manifest["classes"]) - 1
    student = np.array(axes.get_xlim()) / 100
    expected = teacher * student + (1 - teacher) * (1 - student) / others
    axes.plot(100 * student, 100 * expected, color=FAINT, linestyle="--", linewidth=1.0, zorder=1)


def _points(axes: Axes, summary: Summary, rows: tuple[Row, ...], name: str) -> tuple[list[Label], list[Mark]]:
    methods = style.method_styles(summary)
    markers = style.kind_markers(summary)
    judge = summary.headline_column
    across_scale, scale = style.drawn(judge), style.drawn(summary.columns[name])
    places: dict[tuple[str, str], tuple[float, float]] = {}
    marks: list[Mark] = []
    tops: dict[str, Label] = {}
    for row in rows:
        x, y = row.metrics[judge.name], row.metrics[name]
        if x.mean is None or y.mean is None or row.method is None:
            continue
        at = (across_scale * x.mean, scale * y.mean)
        look = methods[row.method].marker_face
        across = Mark(*_ends(x, across_scale), at[1], at[1])
        upright = Mark.upright(at[0], *_ends(y, scale))
        axes.hlines(at[1], across.left, across.right, color=look["color"], linewidth=0.9)
        axes.vlines(at[0], upright.low, upright.high, color=look["color"], linewidth=0.9)
        axes.plot(*at, marker=markers[row.model], markersize=6.5, zorder=4, **look)
        places[row.model, row.method] = at
        marks += [across, upright]
        if row.model not in tops or upright.high > tops[row.model].high:
            tops[row.model] = Label(row.model, at[0], upright.high, upright.high)
    for (student, method), (x_to, y_to) in places.items():
        if method != CONTROL and (start := places.get((student, CONTROL))):
            axes.plot([start[0], x_to], [start[1], y_to], color=FAINT, linewidth=0.6, alpha=0.7, zorder=1)
    return list(tops.values()), marks


def _ends(interval: Interval, scale: float) -> tuple[float, float]:
    assert interval.mean is not None
    low = interval.mean if interval.low is None else interval.low
    high = interval.mean if interval.high is None else interval.high
    return scale * low, scale * high
