"""Names beside points, placed so that they cover neither points nor each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from kdbench.report.drawing_settings import FAINT, INK

DIAGONALS = ((-1, 1), (1, 1), (-1, -1), (1, -1))
# Where a label may stand: offset in points from its anchor, and which of its sides faces the anchor.
PLACES = (
    (0, 9, "center", "bottom"),
    *((9 * x, 9 * y, "left" if x > 0 else "right", "center") for x, y in DIAGONALS[:2]),
    (0, -9, "center", "top"),
    *((9 * x, 9 * y, "left" if x > 0 else "right", "center") for x, y in DIAGONALS[2:]),
    (9, 0, "left", "center"),
    (-9, 0, "right", "center"),
    *((far * x, far * y, "left" if x > 0 else "right", "center") for far in (18, 28) for x, y in DIAGONALS),
)
CLEARANCE = 3.0
# Pixels between two labels.
GAP = 4.0


@dataclass(frozen=True)
class Mark:
    """What labels must stay clear of, in data coordinates: a point, or a line along one axis."""

    left: float
    right: float
    low: float
    high: float

    @classmethod
    def upright(cls, x: float, low: float, high: float) -> Mark:
        """Return the mark of a vertical line, such as a point with its whisker."""
        return cls(x, x, low, high)


@dataclass(frozen=True)
class Label:
    """A name for a group of marks, which stands beside their common extent."""

    text: str
    x: float
    low: float
    high: float


def place(axes: Axes, labels: Sequence[Label], marks: Sequence[Mark]) -> None:
    """Write the labels that fit; the figure must be laid out.

    From the top down, each label takes the first place around its group that is free and inside the
    axes; a thin line leads back to the group.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    renderer = FigureCanvasAgg(figure).get_renderer()
    frame = axes.get_window_extent(renderer)
    taken = [_box(axes, mark) for mark in marks]
    for label in sorted(labels, key=lambda label: -label.high):
        for right, up, horizontal, vertical in PLACES:
            y = label.low if up < 0 else label.high if up > 0 else (label.low + label.high) / 2
            text = axes.annotate(
                label.text,
                (label.x, y),
                xytext=(right, up),
                textcoords="offset points",
                ha=horizontal,
                va=vertical,
                fontsize=7.5,
                color=INK,
                zorder=6,
                arrowprops={"arrowstyle": "-", "color": FAINT, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 2},
            )
            text.set_in_layout(False)
            text.set_path_effects([withStroke(linewidth=2.0, foreground="white")])
            text.update_positions(renderer)
            # Of the text alone: an annotation's own extent takes in the line to its anchor.
            box = Text.get_window_extent(text, renderer)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            if inside and not any(box.overlaps(other) for other in taken):
                taken.append(box.padded(GAP))
                break
            text.remove()


def _box(axes: Axes, mark: Mark) -> Bbox:
    corners = [(mark.left, mark.low), (mark.right, mark.high)]
    (left, low), (right, high) = axes.transData.transform(corners)
    clear = axes.figure.dpi / 72 * CLEARANCE
    return Bbox.from_extents(left - clear, low - clear, right + clear, high + clear)
