"""The files of a report, written from a run directory."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from kdbench.analysis.summary import summarise
from kdbench.report.rendering import as_csv, as_latex
from kdbench.store import RunDirectory, write_atomic

FIGURES = "figures"
# One file with everything in it, or a small one with links to the figures and no interactive chart.
PageForm = Literal["full", "lean"]


def write_report(path: str | Path, out: str | Path | None = None, page: PageForm = "full") -> Path:
    """Write the report of a run into ``out`` (default: RUN/report) and return the path of its index.html.

    Files: index.html, report.md, results.csv and .tex (the headline table), results_TASK.csv and .tex for
    each further task, differences.csv and .tex,
    differences_from_kd.csv and .tex where kd is not the only method, ranks.csv and .tex where there are three
    methods and students to rank, runtimes.csv and .tex where more than eager mode was timed, published.csv
    and .tex where papers report figures for any row, summary.csv (every metric with its interval), and
    figures/ in PNG, SVG and PDF. A ``lean`` page links those figures and leaves out the interactive chart,
    whose library is 4.5 MB. Raises UserError where ``path`` is not a run directory or ``out`` cannot
    be written.
    """
    # Drawing needs half a second of imports, which 'kdbench compare' does without.
    from kdbench.report.content import gather
    from kdbench.report.document import as_document
    from kdbench.report.gallery import make_plates
    from kdbench.report.page import as_page

    run = RunDirectory.open(path)
    summary = summarise(run)
    folder = Path(out) if out is not None else run.path / "report"
    content = gather(summary, make_plates(summary, folder / FIGURES))
    tables = {"results": content.main, "differences": content.differences}
    tables |= {f"results_{task}": table for task, table in content.tasks.items()}
    further = {
        "differences_from_kd": content.over_kd,
        "ranks": content.ranks,
        "runtimes": content.runtimes,
        "published": content.published,
    }
    tables |= {name: table for name, table in further.items() if table is not None}
    for name, table in tables.items():
        write_atomic(folder / f"{name}.csv", as_csv(table))
        write_atomic(folder / f"{name}.tex", as_latex(table))
    write_atomic(folder / "summary.csv", summary.frame().to_csv(index=False))
    write_atomic(folder / "report.md", as_document(content, FIGURES))
    index = folder / "index.html"
    write_atomic(index, as_page(content, summary, FIGURES if page == "lean" else None))
    return index
