"""The command that says what to ship."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import typer

from kdbench.cli.options import AsJson, RunArgument, error_console, escaped, out_console, print_json
from kdbench.errors import UserError


def pick(
    path: RunArgument,
    at_most: Annotated[
        list[str] | None,
        typer.Option("--max", metavar="COLUMN=NUMBER", help="Only rows with at most this. May be repeated."),
    ] = None,
    at_least: Annotated[
        list[str] | None,
        typer.Option("--min", metavar="COLUMN=NUMBER", help="Only rows with at least this. May be repeated."),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option("--by", help="Column that the best is best by; default: the headline of the run."),
    ] = None,
    within: Annotated[
        float | None,
        typer.Option(
            "--within",
            metavar="POINTS",
            help="Instead of the best the cheapest that may lose less than this against it.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say which student to ship: the best within limits, what it costs and gives up, and how to export it.

    Limits are on means over seeds, in the unit of the column (size_bytes=100000, latency_cpu_b1_p50_ms=2);
    shares are proportions or percentages (top1=0.9 or top1=90%). 'kdbench list metrics' names the columns.

    With --within it is the cheapest whose mean is within so many points of the best, by the first cost that
    --max limits, else by latency; whether a smaller loss is shown or only not excluded is told.

    The runner-up is compared by seeds; that it comes second does not mean that it is worse. Exit status: 1
    where nothing keeps within the limits; the nearest miss is shown.
    """
    from kdbench import report
    from kdbench.store import earlier_note

    most, least = _limits("--max", at_most or ()), _limits("--min", at_least or ())
    if as_json:
        values = report.pick(path, at_most=most, at_least=least, by=by, within=within)
        print_json(values)
        found = values["picked"] is not None
    else:
        found = report.render_pick(path, out_console, at_most=most, at_least=least, by=by, within=within)
    if note := earlier_note(path):
        error_console.print(escaped(note), soft_wrap=True)
    if not found:
        raise typer.Exit(1)


def _limits(option: str, texts: Sequence[str]) -> dict[str, float]:
    limits: dict[str, float] = {}
    for text in texts:
        name, equals, number = text.partition("=")
        try:
            share = number.strip().endswith("%")
            value = float(number.strip().removesuffix("%")) / (100 if share else 1)
        except ValueError:
            value = math.nan
        if not equals or not math.isfinite(value):
            raise UserError(f"{option} {text}: write COLUMN=NUMBER, such as {option} size_bytes=100000.")
        if name.strip() in limits:
            raise UserError(f"{option} {name.strip()} is given twice: keep one.")
        limits[name.strip()] = value
    return limits
