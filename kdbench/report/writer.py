"""The files of a report, written from a run directory."""

from __future__ import annotations

import html
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from kdbench.analysis.summary import summarise
from kdbench.progress import Progress
from kdbench.report.attempts import Attempts
from kdbench.report.renderers.latex import as_latex
from kdbench.report.renderers.separated import as_csv
from kdbench.store import RunDirectory, within, write_atomic
from kdbench.suite import own_of

FIGURES = "figures"
FAILURES = "failures.txt"
# One file with everything in it, or a small one with links to the figures and no interactive chart.
PageForm = Literal["full", "lean"]


def warn(text: str) -> None:
    """Warn as Python does: what is done with a failure where nobody asks to be told."""
    warnings.warn(text, RuntimeWarning, stacklevel=3)


def write_report(
    path: str | Path,
    out: str | Path | None = None,
    page: PageForm = "full",
    *,
    sections: Sequence[str] = (),
    failed: Callable[[str], None] = warn,
    progress: Progress | None = None,
) -> Path:
    """Write the report of a run into ``out`` (default: RUN/report) and return the path of its index.html.

    Files: index.html, report.md, results.csv and .tex (the headline table), results_TASK.csv and .tex for
    each further head, differences.csv and .tex, differences_from_kd.csv and .tex where kd is not the only
    method, ranks.csv and .tex where there are three methods and students to rank, runtimes.csv and .tex where
    more than eager mode was timed, published.csv and .tex where papers report figures for any row,
    summary.csv (every metric with its interval), and figures/ in PNG, SVG and PDF. A ``lean`` page links
    those figures and leaves out the interactive chart, whose library is 4.5 MB. ``sections`` are further ones
    of a user's own files, ``path/file.py:name`` (see `kdbench.report.registry`). A part that cannot be made
    leaves the others alone: it is named in the report, ``failed`` is told of it in a line, and its traceback
    is in failures.txt. ``progress`` is told how far the figures are, which take most of the time. Raises
    UserError where ``path`` is not a run directory, ``out`` cannot be written or there is no such section.
    """
    # Drawing needs half a second of imports, which 'kdbench compare' does without.
    from kdbench.report.content import gather
    from kdbench.report.gallery import make_plates
    from kdbench.report.registry import SECTIONS
    from kdbench.report.renderers.html import as_page
    from kdbench.report.renderers.markdown import as_document

    run = RunDirectory.open(path)
    summary = summarise(run)
    folder = Path(out) if out is not None else run.inside("report")
    attempts = Attempts()
    further = tuple(dict.fromkeys((*own_of(run.path, "sections"), *sections)))
    for reference in further:  # before what takes long
        SECTIONS.find(reference)
    plates = make_plates(summary, within(folder, FIGURES), attempts, progress)
    content = gather(summary, plates, attempts, further=further, interactive=page == "full")
    files: dict[str, Callable[[], str]] = {}
    for name, table in content.files.items():
        files |= {f"{name}.csv": partial(as_csv, table), f"{name}.tex": partial(as_latex, table)}
    absent = [FAILURES, *(f"{name}.{suffix}" for name in content.absent for suffix in ("csv", "tex"))]
    files["summary.csv"] = lambda: summary.frame().to_csv(index=False)
    files["report.md"] = lambda: as_document(content, FIGURES)
    files["index.html"] = lambda: as_page(content, FIGURES if page == "lean" else None)
    for name, make in files.items():
        text = attempts.make(name, None, make)
        if text is None and name == "index.html":
            text = _bare_page(content.title, attempts)
        if text is None:
            absent.append(name)
        else:
            write_atomic(folder / name, text)
    # What an earlier report left would be taken for a part of this one.
    for name in absent:
        (folder / name).unlink(missing_ok=True)
    if attempts.broken:
        write_atomic(folder / FAILURES, attempts.traces)
    for broken in attempts.broken:
        failed(f"{broken}; its traceback is in {folder / FAILURES}")
    return folder / "index.html"


def _bare_page(title: str, attempts: Attempts) -> str:
    """Return a page that says why there is no other."""
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title>'
    items = "".join(f"<li>{html.escape(str(broken))}</li>" for broken in attempts.broken)
    return f'<!doctype html><html lang="en">{head}<ul>{items}</ul></html>'
