"""Per-class change: which classes a student gains and loses against its teacher."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kdbench.analysis.rows import Row
from kdbench.analysis.summary import Summary
from kdbench.report import captions, numerals, style
from kdbench.report.abbreviation import shorten_labels
from kdbench.report.drawing_settings import INK
from kdbench.report.figures import NothingToDraw
from kdbench.report.registry import drawing

MOST_ROWS = 64
# Up to so many classes a cell has room for its number, and a column for a full class name.
NUMBERS, NAMES = 16, 130


def title(summary: Summary) -> str:
    """Say what the figure shows."""
    return f"Recall of each class, student minus teacher: {captions.subject(summary)}"


def caption(summary: Summary) -> str:
    """Say what the colours mean."""
    _, thinned = _rows(summary)
    teachers = sum(len(row.seeds) for row in summary.teachers)
    classes = len(summary.manifest["classes"])
    each = summary.test_size / classes
    return captions.sentences(
        f"Mean recall of the student over {captions.seeds(summary)} minus that of the teacher "
        f"(n = {teachers}), in points, on the test split, last epoch; orange: the student is worse, "
        "purple: better.",
        "Classes are sorted from the greatest mean loss (left) to the greatest gain (right).",
        f"There are about {each:.0f} test examples a class (one is {numerals.significant(100 / each, 2)} "
        "points), so small changes are within chance.",
        thinned,
    )


@drawing("class_change", order=50, title=title, caption=caption)
def draw(summary: Summary) -> Figure:
    """Draw a line a row and a column a class; raises NothingToDraw where recalls are not known."""
    rows, _ = _rows(summary)
    reference = _reference(summary)
    if reference is None:
        raise NothingToDraw("no teacher has a recall per class")
    if not rows:
        raise NothingToDraw("no student has a recall per class")
    # Masked where a class has no test example.
    change = np.ma.masked_invalid(100 * (np.array([row.recall for row in rows], dtype=float) - reference))
    order = np.argsort(change.mean(axis=0).filled(0.0), kind="stable")
    classes = len(order)
    heights, ticks = style.grouped_rows(rows)
    width = 3.4 + (0.52 * classes if classes <= NUMBERS else min(0.115 * classes, 13.0))
    figure = style.new_figure(title(summary), width=max(width, 8.5), height=max(3.0, 1.9 + 0.2 * len(ticks)))
    axes = figure.subplots()
    largest = float(np.ma.filled(np.abs(change).max(), 0.0)) or 1.0
    for y, values in zip(heights, change[:, order], strict=True):
        mesh = axes.pcolormesh(
            np.arange(classes + 1) - 0.5,
            [y - 0.46, y + 0.46],
            values[None, :],
            cmap="PuOr",
            vmin=-largest,
            vmax=largest,
            rasterized=classes > NAMES,
        )
        if classes <= NUMBERS:
            _write_numbers(axes, y, values, largest)
    style.label_rows(axes, ticks)
    axes.set_xlim(-0.5, classes - 0.5)
    axes.grid(visible=False)
    _label_classes(axes, [str(summary.manifest["classes"][index]) for index in order])
    bar = figure.colorbar(mesh, ax=axes, fraction=0.03, pad=0.01, aspect=30)
    bar.set_label("change of recall (points)")
    bar.outline.set_visible(False)
    return figure


def _rows(summary: Summary) -> tuple[list[Row], str]:
    rows, thinned = style.rows_shown(summary, MOST_ROWS)
    return [row for row in rows if row.recall], thinned


def _reference(summary: Summary) -> np.ndarray | None:
    recall = next((row.recall for row in summary.teachers if row.recall), None)
    return None if recall is None else np.array(recall, dtype=float)


def _write_numbers(axes: Axes, y: float, values: np.ma.MaskedArray, largest: float) -> None:
    for x, value in enumerate(values.filled(np.nan)):
        if np.isfinite(value):
            text = f"{value:+.1f}".replace("-", "−") if abs(value) >= 0.05 else "0"
            ink = "white" if abs(value) > 0.62 * largest else INK
            axes.text(x, y, text, ha="center", va="center_baseline", fontsize=7, color=ink)


def _label_classes(axes: Axes, names: list[str]) -> None:
    axes.set_xlabel("class, sorted by mean change")
    if len(names) > NAMES:
        axes.set_xticks([])
        return
    crowded = len(names) > NUMBERS
    upright = crowded or max(map(len, names)) > 6
    axes.set_xticks(
        range(len(names)),
        shorten_labels(names, 22),
        rotation=90 if upright else 0,
        fontsize=5.5 if crowded else 8,
    )
    axes.tick_params(axis="x", length=0)
