"""How every figure looks: colours, markers, lines, captions that several figures share."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from kdbench.analysis.comparison import CONTROL
from kdbench.analysis.rows import Row
from kdbench.analysis.summary import Summary
from kdbench.column import Column
from kdbench.report import numerals
from kdbench.report.abbreviation import shorten_labels
from kdbench.report.drawing_settings import FAINT, INK, PARAMETERS

# Hues that colour-blind readers can tell apart (after Okabe & Ito, 2008, and Tol, 2021), ordered so that
# neighbours also differ in lightness: the first ones stay apart in greyscale.
PALETTE = ("#0072B2", "#E69F00", "#882255", "#009E73", "#56B4E9", "#D55E00", "#CC79A7", "#7a7a1f")
# Once the colours are used up they come round again with another face, then with another line.
FACES = ("full", "open", "left")
# Characters of a line's label in a figure, where shorter labels stay apart.
ROW_LABEL = 34
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)), (0, (3, 3)))
KINDS = ("o", "s", "^", "D", "v", "P", "X", "h", "p", "<", ">")
TEACHER_MARKER = "*"
# What is left free beside a title, as a share of the figure's width.
MARGIN = 0.01
# Legend entries that a spare panel holds, in two columns.
ROOM_BESIDE = 30


@dataclass(frozen=True)
class MethodStyle:
    """How a method is drawn: colour, face of its markers, dashes of its lines."""

    color: str
    face: str
    dashes: Any

    @property
    def marker_face(self) -> dict[str, Any]:
        """The arguments of ``Axes.plot`` for a marker in this style."""
        return {
            "color": self.color,
            "fillstyle": "left" if self.face == "left" else "full",
            "markerfacecolor": "white" if self.face == "open" else self.color,
            "markerfacecoloralt": "white",
            "markeredgecolor": self.color,
        }


@contextmanager
def styled() -> Iterator[None]:
    """Apply the shared parameters while figures are drawn and saved, and nowhere else."""
    with matplotlib.rc_context(PARAMETERS), warnings.catch_warnings():
        # A sign that the font lacks is drawn as a box; tables and captions hold it.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        yield


def new_figure(title: str, width: float, height: float) -> Figure:
    """Return an empty figure (inches) with constrained layout and its title at the left."""
    figure = Figure(figsize=(width, height), layout="constrained")
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.set(w_pad=0.08, h_pad=0.08)  # type: ignore[call-arg]
    text = figure.suptitle(title, x=MARGIN, ha="left", fontsize=11.5, fontweight="bold")
    text.set_text(_broken(text, figure))
    return figure


def _broken(text: Text, figure: Figure) -> str:
    """Return a text in as many lines as it needs to stay within the width of the figure."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    room = (1 - 2 * MARGIN) * figure.bbox.width
    lines: list[str] = []
    for word in text.get_text().split():
        longer = f"{lines[-1]} {word}" if lines else word
        text.set_text(longer)
        if lines and text.get_window_extent(renderer).width <= room:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines)


def method_styles(summary: Summary) -> dict[str, MethodStyle]:
    """Return a style for each method of the run: ``scratch`` in open grey, the others through the palette.

    This alone decides how a method looks in every figure and chart of a report. It goes by the whole run,
    whatever part of it is drawn.
    """
    methods, styles = summary.run_methods, {}
    others = [method for method in methods if method != CONTROL]
    for index, method in enumerate(others):
        turn = index // len(PALETTE)
        dashes = DASHES[(index + turn) % len(DASHES)]
        styles[method] = MethodStyle(PALETTE[index % len(PALETTE)], FACES[turn % len(FACES)], dashes)
    if CONTROL in methods:
        styles[CONTROL] = MethodStyle("#555555", "open", (0, (1, 1)))
    return {method: styles[method] for method in methods}


def kind_of(student: str) -> str:
    """Return the architecture family that a label begins with: 'resnet' of 'torchvision:resnet18'."""
    name = re.split(r"[:/.]", student.removesuffix(".py"))[-1]
    match = re.match(r"[A-Za-z]+?(?=v?\d|[^A-Za-z]|$)", name)
    return match.group().lower() if match else name


def kind_markers(summary: Summary) -> dict[str, str]:
    """Return a marker for each student of the run; students of one architecture family share it."""
    kinds = list(dict.fromkeys(map(kind_of, summary.run_students)))
    return {student: KINDS[kinds.index(kind_of(student)) % len(KINDS)] for student in summary.run_students}


def legend_handles(summary: Summary, rows: Sequence[Row]) -> list[Line2D]:
    """Return the legend of a scatter plot of ``rows``: methods by colour, students by marker, the teacher."""
    shown = {row.method for row in rows}
    size: Any = {"linestyle": "none", "markersize": 6.5}
    methods = [
        Line2D([], [], marker="o", label=method, **size, **style.marker_face)
        for method, style in method_styles(summary).items()
        if method in shown
    ]
    markers: dict[str, list[str]] = {}
    for student, marker in kind_markers(summary).items():
        if student in summary.student_names:
            markers.setdefault(marker, []).append(kind_of(student))
    kinds = [
        Line2D([], [], marker=marker, color=FAINT, label=" / ".join(dict.fromkeys(names)), **size)
        for marker, names in markers.items()
    ]
    teacher = Line2D(
        [], [], marker=TEACHER_MARKER, color=INK, linestyle="none", markersize=11, label="teacher"
    )
    return [*methods, *kinds, *([teacher] if any(row.role == "teacher" for row in rows) else [])]


def legend_below(figure: Figure, handles: Sequence[Any]) -> None:
    """Put the legend under the axes, in as many columns as the labels leave room for."""
    longest = max(len(str(handle.get_label())) for handle in handles)
    inches = 0.5 + 0.075 * longest
    columns = max(1, min(len(handles), int((figure.get_figwidth() - 0.3) / inches)))
    _legend(figure, handles, loc="outside lower left", ncols=columns, handletextpad=0.5, columnspacing=1.2)


def legend_beside(figure: Figure, spare: Sequence[Axes], handles: Sequence[Any]) -> None:
    """Put the legend into the first panel that a grid has to spare, or below where it does not fit there."""
    for axes in spare[1:]:
        axes.remove()
    if spare and len(handles) <= ROOM_BESIDE:
        spare[0].set_axis_off()
        _legend(spare[0], handles, loc="center left", ncols=1 if len(handles) <= ROOM_BESIDE / 2 else 2)
        return
    for axes in spare[:1]:
        axes.remove()
    legend_below(figure, handles)


def _legend(owner: Figure | Axes, handles: Sequence[Any], **layout: Any) -> None:
    """Draw a legend that has every handle: matplotlib leaves out those whose labels begin with _."""
    legend = owner.legend(handles=handles, labels=["label"] * len(handles), **layout)
    for text, handle in zip(legend.get_texts(), handles, strict=True):
        text.set_text(str(handle.get_label()))


def drawn(column: Column) -> float:
    """Return what the values of a column are multiplied by on an axis: proportions are drawn in percent."""
    return 100.0 if column.scale == "percent" else 1.0


def axis_label(column: Column, of: str = "") -> str:
    """Return the label of an axis of a metric: ``top-1 accuracy (%)``."""
    unit = numerals.unit(column)
    return f"{column.label}{of}{f' ({unit})' if unit else ''}"


def limits(rows: Sequence[Row], column: Column) -> tuple[float, float]:
    """Return the limits of a truncated axis: all intervals in view, of proportions at least two points wide.

    Two points keep differences that are noise from filling the picture; beyond the range there is nothing.
    """
    factor, intervals = drawn(column), [row.metrics[column.name] for row in rows]
    ends = [factor * end for i in intervals for end in (i.mean, i.low, i.high) if end is not None]
    lowest, highest = (factor * end for end in column.bounds)
    low, high = max(lowest, min(ends)), min(highest, max(ends))
    least = 2.0 if column.scale == "percent" else 0.0
    missing = max(0.0, least - (high - low)) / 2
    margin = 0.06 * (max(high - low, least) or 1.0)
    return max(lowest, low - missing - margin), min(highest + margin, high + missing + margin)


def log_cost_axis(axes: Axes, column: Column, low: float, high: float) -> None:
    """Make the horizontal axis logarithmic with tick labels in the units people read."""
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    ratio = high / low
    steps = (1.0,) if ratio > 300 else (1.0, 3.0) if ratio > 12 else (1.0, 2.0, 5.0)
    ticks = [tick for tick in LogLocator(subs=steps).tick_values(low, high) if low <= tick <= high]
    if len(ticks) < 2:
        ticks = [low * ratio**share for share in (0.1, 0.5, 0.9)]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: cost_text(column, value)))


def cost_text(column: Column, value: float) -> str:
    """Return a cost as a tick label: 1 k, 300 k, 0.02, without zeros that say nothing."""
    text = numerals.number(column, value)
    return re.sub(r"(\.\d*?)0+(?=\D|$)", r"\1", text).replace(". ", " ").removesuffix(".")


def cost_label(column: Column) -> str:
    """Return the label of a cost axis: title, unit, and that it is logarithmic."""
    unit = "bytes" if column.scale == "bytes" else numerals.unit(column)
    parts = ", ".join(part for part in (unit, "log scale") if part)
    return f"{column.title} ({parts})"


def rows_shown(summary: Summary, limit: int) -> tuple[tuple[Row, ...], str]:
    """Return the students' rows that a figure can hold, and what its caption says of the others.

    Beyond ``limit`` rows each student keeps its control and the method that is best by the headline.
    """
    column = summary.headline_column
    sign = -1.0 if column.direction == "lower" else 1.0
    rows = tuple(row for row in summary.measured if row.mean(column.name) is not None)

    def gain(row: Row) -> float:
        return sign * (row.mean(column.name) or 0.0)

    if len(rows) <= limit:
        return rows, ""
    best: dict[str | None, Row] = {}
    for row in rows:
        top = best.get(row.student)
        if row.method != CONTROL and (top is None or gain(row) > gain(top)):
            best[row.student] = row
    kept = tuple(row for row in rows if row.method == CONTROL or row is best.get(row.student))
    word = "most accurate" if column.quantity == "top1" else "best"
    note = (
        f"Shown are {CONTROL} and the {word} method of each student, {len(kept)} of {len(rows)} rows; "
        "the best of many is flattered by chance."
    )
    return kept, note


def grouped_rows(rows: Sequence[Row]) -> tuple[list[float], list[tuple[float, str, bool]]]:
    """Return heights for one line a row under a heading a student, and the ticks (height, text, is heading).

    Heights grow downwards; rows of one student must follow each other.
    """
    heights: list[float] = []
    ticks: list[tuple[float, str, bool]] = []
    y = 0.0
    previous: str | None = None
    for row in rows:
        if row.student != previous:
            ticks.append((y + (0.35 if previous is not None else 0.0), row.model, True))
            y += 1.0 + (0.35 if previous is not None else 0.0)
            previous = row.student
        heights.append(y)
        ticks.append((y, row.method or "", False))
        y += 1.0
    return heights, ticks


def label_rows(axes: Axes, ticks: Sequence[tuple[float, str, bool]]) -> None:
    """Label the lines of ``grouped_rows``, students in bold, the first line at the top."""
    short = iter(shorten_labels([text for _, text, heading in ticks if not heading], ROW_LABEL))
    labels = [text if heading else next(short) for _, text, heading in ticks]
    axes.set_yticks([y for y, _, _ in ticks], labels)
    axes.tick_params(axis="y", length=0)
    for text, (_, _, heading) in zip(axes.get_yticklabels(), ticks, strict=True):
        if heading:
            text.set_fontweight("bold")
    axes.set_ylim(max(y for y, _, _ in ticks) + 0.6, min(y for y, _, _ in ticks) - 0.6)
