"""Learning curves: accuracy by epoch, a panel a student."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from kdbench.analysis.rows import Row
from kdbench.analysis.summary import Summary
from kdbench.column import Column
from kdbench.report import captions, style
from kdbench.report.figures import NothingToDraw
from kdbench.report.registry import drawing

MOST_ACROSS = 6
# Of more methods a student, lines would hide each other.
MOST_METHODS = 10
SPLITS = ("validation", "train")


def title(summary: Summary) -> str:
    """Say what the figure shows."""
    what = "Validation" if _split(summary) == "validation" else "Training"
    return f"{what} {summary.headline_column.label} by epoch: {captions.subject(summary)}"


def caption(summary: Summary) -> str:
    """Say what lines and bands mean."""
    split, column = _split(summary), summary.headline_column
    low, _ = _limits(_curves(summary, split), column) if split else (0.0, 0.0)
    size = f" ({summary.manifest['sizes']['validation']:,} examples)"
    where = f"validation split{size}" if split == "validation" else "training split, augmented"
    word = captions.noun(column)
    return captions.sentences(
        f"{column.title} on the {where}, epoch by epoch.",
        f"The run has no validation split: {word} in training says little about {word} on unseen data."
        if split == "train"
        else "",
        f"Lines are means over {captions.seeds(summary)}; bands reach from the lowest to the highest."
        if summary.seed_counts[-1] > 1
        else "Each line is one seed (n = 1).",
        _rows(summary)[1],
        f"{captions.truncation(low, column)} Earlier epochs may lie below it." if low > 0 else "",
    )


@drawing("learning_curves", order=40, title=title, caption=caption)
def draw(summary: Summary) -> Figure:
    """Draw a panel a student; raises NothingToDraw where no student has a history."""
    split = _split(summary)
    if split is None:
        raise NothingToDraw("no student has a learning curve")
    curves = _curves(summary, split)
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
        _panel(axes, curves[curves["student"] == student], methods)
        axes.set_title(student, loc="left", fontweight="bold")
        axes.tick_params(labelbottom=True)
    panels[0].set_ylim(*_limits(curves, summary.headline_column))
    panels[0].xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    for axes in grid[:, 0]:
        axes.set_ylabel(style.axis_label(summary.headline_column))
    for axes in panels[max(0, len(students) - across) : len(students)]:
        axes.set_xlabel("epoch")
    return figure


def _split(summary: Summary) -> str | None:
    """Return the split whose curve is drawn: validation where there is one, else training."""
    histories = summary.histories
    students = histories[histories["role"] == "student"]
    for split in SPLITS:
        column = f"{split}_{summary.headline}"
        if column in students and students[column].notna().any():
            return split
    return None


def _rows(summary: Summary) -> tuple[tuple[Row, ...], str]:
    return style.rows_shown(summary, MOST_METHODS * len(summary.student_names))


def _curves(summary: Summary, split: str) -> pd.DataFrame:
    """Return mean, lowest and highest as they are drawn, one row a student, method and epoch."""
    histories, column = summary.histories, f"{split}_{summary.headline}"
    factor = style.drawn(summary.headline_column)
    shown = {(row.student, row.method) for row in _rows(summary)[0]}
    pairs = zip(histories["student"], histories["method"], strict=True)
    wanted = np.array([pair in shown for pair in pairs], dtype=bool)
    students = histories[(histories["role"] == "student") & histories[column].notna() & wanted]
    grouped = (factor * students[column]).groupby([students[key] for key in ("student", "method", "epoch")])
    return grouped.agg(["mean", "min", "max"]).reset_index()


def _limits(curves: pd.DataFrame, column: Column) -> tuple[float, float]:
    """Return limits that leave the steep first fifth of the epochs out where it would flatten the rest."""
    last = curves["epoch"].max()
    late = curves[curves["epoch"] > 0.2 * last]
    low, high = late["min"].min(), curves["max"].max()
    lowest, highest = (style.drawn(column) * end for end in column.bounds)
    margin = 0.05 * (max(high - low, 2.0 if column.scale == "percent" else 0.0) or 1.0)
    return max(lowest, low - margin), min(highest + margin, high + margin)


def _panel(axes: Axes, curves: pd.DataFrame, methods: dict[str, style.MethodStyle]) -> None:
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
            curve["mean"],
            color=look.color,
            linestyle=look.dashes,
            linewidth=1.3,
            marker=marker,
        )


def _handle(method: str, look: style.MethodStyle) -> Line2D:
    return Line2D([], [], color=look.color, linestyle=look.dashes, linewidth=1.6, label=method)
