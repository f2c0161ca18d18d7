"""The critical-difference diagram: methods on an axis of mean ranks, bars over those not told apart."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kdbench.analysis.ranks import Ranking
from kdbench.report import style
from kdbench.report.abbreviation import shorten_labels
from kdbench.report.drawing_settings import FAINT, INK

# Inches: of the axis, of a character of a label, of a line of labels, of a clique's bar.
AXIS = 4.4
CHARACTER = 0.072
LINE = 0.23
BAR = 0.11
LABEL = 30
# Beyond this a title is broken into lines.
WIDEST = 14.0


def draw_ranking(ranking: Ranking, title: str) -> Figure:
    """Draw the ranking, the best method at the left; the ranking must have been tested.

    Source of the form: Demšar, JMLR 7, 2006, figure 1.
    """
    names = shorten_labels(ranking.methods, LABEL)
    labels = [f"{name}  {rank:.2f}" for name, rank in zip(names, ranking.mean_ranks, strict=True)]
    half = math.ceil(len(labels) / 2)
    left, right = (0.3 + CHARACTER * max(map(len, part)) for part in (labels[:half], labels[half:]))
    right = max(right, 1.6)
    below = 0.12 + BAR * len(ranking.cliques) + LINE * half + 0.1
    above = 0.75
    height = above + below + 0.45
    width = max(AXIS + left + right + 0.2, min(0.115 * len(title), WIDEST))
    figure = style.new_figure(title, width=width, height=height)
    axes = figure.add_subplot()
    axes.set_axis_off()
    # Heights are in inches, from the axis down; ranks become inches, so that nothing is stretched.
    scale = AXIS / (len(labels) - 1)
    places = [(rank - 1) * scale for rank in ranking.mean_ranks]
    axes.set_xlim(-left, AXIS + right)
    axes.set_ylim(-below, above)
    _axis(axes, len(labels), scale)
    _critical_difference(axes, ranking, scale)
    for row, (first, last) in enumerate(ranking.cliques):
        y = -0.12 - BAR * row
        ends = [places[first] - 0.04, places[last] + 0.04]
        axes.plot(ends, [y, y], color=INK, linewidth=3.2, solid_capstyle="butt", zorder=3)
    top = 0.12 + BAR * len(ranking.cliques) + LINE / 2
    _stems(axes, places[:half], labels[:half], top, -0.15, "right")
    _stems(axes, places[: half - 1 : -1], labels[: half - 1 : -1], top, AXIS + 0.15, "left")
    return figure


def _axis(axes: Axes, methods: int, scale: float) -> None:
    axes.plot([0, AXIS], [0, 0], color=INK, linewidth=1.0)
    step = 1 if methods <= 12 else 2
    for rank in range(1, methods + 1):
        x, labelled = (rank - 1) * scale, (rank - 1) % step == 0
        axes.plot([x, x], [0, 0.08 if labelled else 0.05], color=INK, linewidth=1.0)
        if labelled:
            axes.text(x, 0.11, str(rank), ha="center", va="bottom", fontsize=8.0)
    axes.text(AXIS + 0.15, 0.02, "mean rank, 1 is best", ha="left", va="bottom", fontsize=8.0, color=FAINT)


def _critical_difference(axes: Axes, ranking: Ranking, scale: float) -> None:
    """Draw how far apart mean ranks must be; a length beyond the axis is told instead."""
    assert ranking.critical_difference is not None
    length, y = ranking.critical_difference * scale, 0.45
    text = f"CD = {ranking.critical_difference:.2f}"
    if length > AXIS:
        axes.text(0, y, f"{text}, more than the axis is long", ha="left", va="center", fontsize=8.0)
        return
    axes.plot([0, length], [y, y], color=INK, linewidth=1.0)
    for x in (0, length):
        axes.plot([x, x], [y - 0.04, y + 0.04], color=INK, linewidth=1.0)
    axes.text(length + 0.08, y, text, ha="left", va="center", fontsize=8.0)


def _stems(
    axes: Axes, places: Sequence[float], labels: Sequence[str], top: float, x: float, side: str
) -> None:
    """Lead from the axis to one column of labels, the outermost method first, so that no lines cross."""
    for row, (place, label) in enumerate(zip(places, labels, strict=True)):
        y = -top - LINE * row
        axes.plot([place, place, x], [0, y, y], color=FAINT, linewidth=0.8, zorder=1)
        gap = -0.05 if side == "right" else 0.05
        axes.text(x + gap, y, label, ha=side, va="center", fontsize=8.5)
