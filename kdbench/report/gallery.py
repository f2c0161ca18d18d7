"""Figures drawn and saved, in PNG, SVG and PDF."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from kdbench.analysis.summary import Summary
from kdbench.errors import UserError
from kdbench.progress import Progress, Steps
from kdbench.report.abbreviation import for_drawing
from kdbench.report.attempts import Attempts
from kdbench.report.blocks import Plate
from kdbench.report.figures import NothingToDraw
from kdbench.report.registry import Drawing, drawings
from kdbench.report.style import styled
from kdbench.store import write_atomic

DPI = 200
# Characters of a teacher's label in the name of a file.
STEM = 40
# Fixed metadata: the same records give the same files.
FORMATS: dict[str, dict[str, None]] = {
    "png": {},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
}


def make_plates(
    summary: Summary, folder: Path, attempts: Attempts | None = None, progress: Progress | None = None
) -> list[Plate]:
    """Draw every figure for every teacher, write the files into ``folder``, and remove those out of date.

    Controls with a random teacher are left out: they lie so far off that the methods would be one heap.
    A figure that cannot be drawn is missing, with the exception for a reason; ``attempts`` keeps it.
    """
    attempts = attempts or Attempts()
    summary = for_drawing(summary.without_repeats())
    plates: list[Plate] = []
    figures = drawings()
    with Steps(progress or Progress(), "drawing the report", len(figures), "figure") as steps:
        for name, entry in figures.items():
            drawn = list(_plates_of(name, entry, summary, folder, attempts))
            _remove_stale(folder, name, {plate.stem for plate in drawn if plate.missing is None})
            plates += drawn
            steps.step(name)
    return plates


def _plates_of(
    name: str, entry: Drawing, summary: Summary, folder: Path, attempts: Attempts
) -> Iterator[Plate]:
    parts = list(summary.by_teacher())
    for number, (teacher, part) in enumerate(parts, start=1):
        label = re.sub(r"[^A-Za-z0-9_]+", "_", teacher)[:STEM]
        stem = name if len(parts) == 1 else f"{name}-{number}-{label}"
        if not part.measured:
            yield Plate(stem, name, "", missing=f"no student of {teacher} has finished")
            continue
        try:
            with styled():
                figure = entry.draw(part)
                files = save(figure)
            title, caption = entry.title(part), entry.caption(part)
        except NothingToDraw as nothing:
            yield Plate(stem, name, "", missing=str(nothing))
            continue
        except Exception as error:  # of any kind, for the rest of the report must not be lost with a figure
            broken = attempts.failed(f"the figure {stem}", error)
            yield Plate(stem, name, "", missing=broken.reason)
            continue
        for suffix, content in files.items():
            write_atomic(folder / f"{stem}.{suffix}", content)
        width = float(figure.get_figwidth())
        yield Plate(stem, title, caption, files["png"], files["svg"], width)


def save(figure: Figure) -> dict[str, bytes]:
    """Return the figure in each format, by suffix."""
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    # Laid out once: the formats would each do it again, and labels were placed in this layout.
    figure.set_layout_engine(None)
    files = {}
    for suffix, metadata in FORMATS.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix, dpi=DPI, metadata=metadata)
        files[suffix] = buffer.getvalue()
    return files


def write_figure(path: Path, draw: Callable[[], Figure]) -> None:
    """Write one figure by itself, in the format of the suffix; raises UserError for another suffix."""
    suffix = path.suffix.removeprefix(".")
    if suffix not in FORMATS:
        raise UserError(
            f"cannot draw {path}: its name must end in {', '.join(f'.{name}' for name in FORMATS)}."
        )
    with styled():
        write_atomic(path, save(draw())[suffix])


def _remove_stale(folder: Path, name: str, current: set[str]) -> None:
    for suffix in FORMATS:
        for path in (*folder.glob(f"{name}.{suffix}"), *folder.glob(f"{name}-*.{suffix}")):
            if path.stem not in current:
                path.unlink()
