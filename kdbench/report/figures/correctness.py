"""The 2 × 2 of correctness: where student and teacher are right and wrong together and apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from kdbench.analysis.rows import Row
from kdbench.analysis.summary import Summary
from kdbench.report import captions, style
from kdbench.report.figures import NothingToDraw
from kdbench.report.registry import drawing

MOST_BARS = 64


class Part(NamedTuple):
    """A field of the 2 × 2: its column, its name, and how it is filled (told apart without colour too)."""

    column: str
    name: str
    color: str
    hatch: str
    ink: str


PARTS = (
    Part("both_right", "both right", "#dfe7ef", "", "#222222"),
    Part("teacher_only", "only the teacher right", "#E69F00", "", "#222222"),
    Part("student_only", "only the student right", "#56B4E9", "////", "#222222"),
    Part("both_wrong", "both wrong", "#3b3b3b", "", "#ffffff"),
)


def title(summary: Summary) -> str:
    """Say what the figure shows."""
    return f"Right and wrong, together and apart: {captions.subject(summary)}"


def caption(summary: Summary) -> str:
    """Say what the bars mean."""
    _, thinned = _rows(summary)
    return captions.sentences(
        "Share of test examples by who is right. Left: all of them. Right: the same without 'both "
        "right', enlarged; both axes begin at 0.",
        "'Only the teacher right' is what the student lost, 'only the student right' what it can do and "
        "its teacher cannot.",
        f"Bars are means over {captions.seeds(summary)}, without intervals: those are in summary.csv.",
        thinned,
        captions.examples(summary),
    )


@drawing("correctness", order=30, title=title, caption=caption)
def draw(summary: Summary) -> Figure:
    """Draw a bar a row, in full and enlarged; raises NothingToDraw where the four shares are not known."""
    rows, _ = _rows(summary)
    if not rows:
        raise NothingToDraw("no student has the four shares of correctness")
    places, ticks = style.grouped_rows(rows)
    figure = style.new_figure(title(summary), width=11.5, height=1.5 + 0.21 * len(ticks))
    whole, apart = figure.subplots(1, 2, sharey=True, width_ratios=(1.0, 1.15))
    _bars(whole, rows, places, PARTS)
    _bars(apart, rows, places, PARTS[1:])
    whole.set_xlim(0, 100)
    apart.set_xlim(0, 1.03 * max(_total(row, PARTS[1:]) for row in rows) or 1.0)
    whole.set_xlabel("share of test examples (%)")
    apart.set_xlabel("share of test examples (%), without 'both right'")
    style.label_rows(whole, ticks)
    apart.tick_params(axis="y", labelleft=False, length=0)
    handles = [_patch(part) for part in PARTS]
    style.legend_below(figure, handles)
    return figure


def _rows(summary: Summary) -> tuple[list[Row], str]:
    rows, thinned = style.rows_shown(summary, MOST_BARS)
    return [row for row in rows if all(row.mean(part.column) is not None for part in PARTS)], thinned


def _total(row: Row, parts: Sequence[Part]) -> float:
    return sum(100 * (row.mean(part.column) or 0.0) for part in parts)


def _bars(axes: Axes, rows: Sequence[Row], places: Sequence[float], parts: Sequence[Part]) -> None:
    widest = max(_total(row, parts) for row in rows) or 1.0
    for row, y in zip(rows, places, strict=True):
        left = 0.0
        for part in parts:
            width = 100 * (row.mean(part.column) or 0.0)
            axes.barh(
                y,
                width,
                left=left,
                height=0.78,
                color=part.color,
                hatch=part.hatch,
                edgecolor="white",
                linewidth=0.6,
            )
            if width > 0.05 * widest:
                axes.text(
                    left + width / 2,
                    y,
                    f"{width:.1f}",
                    ha="center",
                    va="center_baseline",
                    fontsize=7,
                    color=part.ink,
                    bbox={"facecolor": part.color, "edgecolor": "none", "pad": 0.8} if part.hatch else None,
                )
            left += width
    axes.grid(visible=False, axis="y")


def _patch(part: Part) -> Patch:
    return Patch(facecolor=part.color, hatch=part.hatch, edgecolor="white", label=part.name)
