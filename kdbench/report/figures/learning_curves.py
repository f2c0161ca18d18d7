"""Learning curves: accuracy by epoch, a panel a student."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from kdbench.analysis.summary import Row, Summary
from kdbench.report import captions, style
from kdbench.report.figures import NothingToDraw

ORDER = 4
MOST_ACROSS = 6
# Of more methods a student, lines would hide each other.
MOST_METHODS = 10
VALIDATION, TRAINING = "validation_top1", "train_top1"


def title(summary: Summary) -> str:
    """Say what the figure shows."""
    what = "Validation" if _column(summary) == VALIDATION else "Training"
    return f"{what} top-1 accuracy by epoch: {captions.subject(summary)}"


def caption(summary: Summary) -> str:
    """Say what lines and bands mean."""
    column = _column(summary)
    low, _ = _limits(_curves(summary, column)) if column else (0.0, 0.0)
    size = f" ({summary.manifest['sizes']['validation']:,} examples)"
    split = f"validation split{size}" if column == VALIDATION else "training split, augmented"
    return " ".join(
        part
        for part in (
            f"Top-1 accuracy on the {split}, epoch by epoch.",
            "The run has no validation split: accuracy in training says little about accuracy on unseen data."
            if column == TRAINING
            else "",
            f"Lines are means over {captions.seeds(summary)}; bands reach from the lowest to the highest."
            if summary.seed_counts[-1] > 1
            else "Each line is one seed (n = 1).",
            _rows(summary)[1],
            f"{captions.truncation(low)} Earlier epochs may lie below it." if low > 0 else "",
        )
        if part
    )


def draw(summary: Summary) -> Figure:
    """Draw a panel a student; raises NothingToDraw where no student has a history."""
    column = _column(summary)
    if column is None:
        raise NothingToDraw("no student has a learning curve")
    curves = _curves(summary, column)
    students = [name for name in summary.student_names if name in set(curves["student"])]
    across = min(len(students), 4 if len(students) <= 12 else MOST_ACROSS)
    down = math.ceil(len(students) / across)
    methods = style.method_styles(summary)
    shown = [method for method in summary.methods if method in set(curves["method"])]
    figure = style.new_figure(
        title(summary), width=max(2.9 * across, 6.0) + 0.4, height=2.3 * down + 1.0 + 0.06 * len(shown)
    )
    grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    panels = list(grid.flat)
    style.legend_beside(figure, panels[len(students) :], [_handle(name, methods[name]) for name in shown])
    for axes, student in zip(panels, students, strict=False):
        _panel(axes, curves[curves["student"] == student], column, methods)
        axes.set_title(student, loc="left", fontweight="bold")
        axes.tick_params(labelbottom=True)
    panels[0].set_ylim(*_limits(curves))
    panels[0].xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    for axes in grid[:, 0]:
        axes.set_ylabel("top-1 accuracy (%)")
    for axes in panels[max(0, len(students) - across) : len(students)]:
        axes.set_xlabel("epoch")
    return figure


def _column(summary: Summary) -> str | None:
    """Return the curve to draw: validation where there is such a split, else training."""
    histories = summary.histories
    students = histories[histories["role"] == "student"]
    for column in (VALIDATION, TRAINING):
        if column in students and students[column].notna().any():
            return column
    return None


def _rows(summary: Summary) -> tuple[tuple[Row, ...], str]:
    return style.rows_shown(summary, MOST_METHODS * len(summary.student_names))


def _curves(summary: Summary, column: str) -> pd.DataFrame:
    """Return mean, lowest and highest in percent, one row a student, method and epoch."""
    histories = summary.histories
    shown = {(row.student, row.method) for row in _rows(summary)[0]}
    pairs = zip(histories["student"], histories["method"], strict=True)
    wanted = np.array([pair in shown for pair in pairs], dtype=bool)
    students = histories[(histories["role"] == "student") & histories[column].notna() & wanted]
    grouped = (100 * students[column]).groupby([students[key] for key in ("student", "method", "epoch")])
    curves = grouped.agg(["mean", "min", "max"]).reset_index()
    return curves.rename(columns={"mean": column})


def _limits(curves: pd.DataFrame) -> tuple[float, float]:
    """Return limits that leave the steep first fifth of the epochs out where it would flatten the rest."""
    last = curves["epoch"].max()
    late = curves[curves["epoch"] > 0.2 * last]
    low, high = late["min"].min(), curves["max"].max()
    margin = 0.05 * max(high - low, 2.0)
    return max(0.0, low - margin), min(100.0 + margin, high + margin)


def _panel(axes: Axes, curves: pd.DataFrame, column: str, methods: dict[str, style.MethodStyle]) -> None:
    for method, look in methods.items():
        curve = curves[curves["method"] == method]
        if curve.empty:
            continue
        # One epoch makes no line: a marker shows that there is something.
        marker = "o" if len(curve) == 1 else None
        axes.fill_between(
            curve["epoch"], curve["min"], curve["max"], color=look.color, alpha=0.15, linewidth=0
        )
        axes.plot(
            curve["epoch"],
            curve[column],
            color=look.color,
            linestyle=look.dashes,
            linewidth=1.3,
            marker=marker,
        )


def _handle(method: str, look: style.MethodStyle) -> Line2D:
    return Line2D([], [], color=look.color, linestyle=look.dashes, linewidth=1.6, label=method)
