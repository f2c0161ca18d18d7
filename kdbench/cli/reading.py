"""The commands that read: compare and report a run, list what there is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from kdbench.cli.options import (
    AsJson,
    CodeTimeout,
    RunArgument,
    error_console,
    escaped,
    out_console,
    print_failures,
    print_json,
)
from kdbench.code.foreign import LIMIT_S, limit
from kdbench.errors import UserError, unknown


def compare(
    paths: Annotated[list[Path], typer.Argument(metavar="RUN...", help="One run directory, or several.")],
    metric: Annotated[
        str | None,
        typer.Option("--metric", help="Column to compare the methods by; default: the headline of the run."),
    ] = None,
    baseline: Annotated[
        str, typer.Option("--baseline", help="Method that others are compared with.")
    ] = "scratch",
    published: Annotated[
        bool,
        typer.Option("--published", help="Add the top-1 that papers report, and the difference from it."),
    ] = False,
    figure: Annotated[
        Path | None,
        typer.Option("--figure", help="With several runs: draw the ranks into this PNG, SVG or PDF file."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print the comparison table of a run, or rank the methods of several.

    One run: means with intervals over seeds, differences with corrected significance, Pareto marks.

    Several runs, of different students, teachers or datasets: the methods by mean rank over all students
    (Friedman, Nemenyi), interquartile means.

    A published figure is that of the paper that proposes the method, else of CRD's table (ICLR 2020), else of
    the first paper in the table that ships with kdbench; what a run did otherwise than the papers is told.
    """
    from kdbench import report
    from kdbench.store import earlier_note

    several = len(paths) > 1
    if several and published:
        raise UserError("--published is for one run: papers report no ranks.")
    if figure is not None and (as_json or not several):
        raise UserError(
            "--figure goes with several runs and without --json; 'kdbench report' draws those of one."
        )
    if as_json:
        rank, compare = report.rank, report.compare
        print_json(
            rank(paths, metric, baseline) if several else compare(paths[0], metric, baseline, published)
        )
    elif several:
        report.render_ranks(paths, out_console, metric, baseline, figure)
    else:
        report.render(paths[0], out_console, metric, baseline, published)
        return
    for note in filter(None, map(earlier_note, paths)):
        error_console.print(escaped(note), soft_wrap=True)


def report(
    path: RunArgument,
    out: Annotated[Path | None, typer.Option("--out", help="Folder; default RUN/report.")] = None,
    page: Annotated[
        Literal["full", "lean"],
        typer.Option(
            "--page",
            help="full: one file with an interactive chart, 5 MB; lean: linked figures and no such chart.",
        ),
    ] = "full",
    section: Annotated[
        list[str] | None,
        typer.Option("--section", help="Add a section of your own: path/file.py:name. May be repeated."),
    ] = None,
    rescore: Annotated[
        bool,
        typer.Option("--rescore", help="First compute every metric anew from the stored predictions."),
    ] = False,
    retime: Annotated[
        bool,
        typer.Option("--retime", help="First compute latencies and speed-ups anew from the stored samples."),
    ] = False,
    code_timeout: CodeTimeout = LIMIT_S,
) -> None:
    """Rewrite tables, figures and the HTML page.

    All of it is made anew from the records of the run; nothing is trained. Exit status: 1 where a part of it
    could not be made; the others are written. With --rescore the records themselves get every metric that
    kdbench knows today, also those that the run was made without, and with --retime latencies and speed-ups
    as kdbench states them today; nothing is measured.
    """
    limit(code_timeout)
    from kdbench.cli.console import ConsoleProgress

    with ConsoleProgress(out_console) as progress:
        if retime:
            from kdbench.runner.amendments.retiming import retime as time_again

            count = time_again(path)
            out_console.print(f"Stated the timings of {count} records anew.")
        if rescore:
            from kdbench.runner.amendments.rescoring import rescore as score_again

            count = score_again(path, progress)
            out_console.print(f"Scored {count} records anew.")
        from kdbench.report import write_report
        from kdbench.store import RunDirectory, write_results

        write_results(RunDirectory.open(path))
        failures: list[str] = []
        index = write_report(
            path, out, page, sections=section or (), failed=failures.append, progress=progress
        )
    print_failures(failures)
    out_console.print(f"Wrote {escaped(index.parent)}. Next: open {escaped(index)}", soft_wrap=True)
    if failures:
        raise typer.Exit(1)


def list_(
    kind: Annotated[str, typer.Argument(help="models, methods, datasets, metrics, corruptions or suites.")],
    as_json: AsJson = False,
) -> None:
    """List what kdbench knows: name, one line, source."""
    from kdbench.cli.listing import LISTINGS, listing_table

    if kind not in LISTINGS:
        raise unknown("kind", kind, LISTINGS)
    rows = LISTINGS[kind]()
    if as_json:
        print_json(rows)
    else:
        out_console.print(listing_table(kind, rows))
