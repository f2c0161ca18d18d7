"""The command line: parse, call the API, print. What is slow to import is imported where it is used."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from kdbench.errors import UserError, unknown

if TYPE_CHECKING:
    from kdbench.suite import Suite

app = typer.Typer(
    name="kdbench",
    help="Benchmark knowledge distillation: what a smaller model gains, what it loses, and whether the "
    "difference is real.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
out_console = Console()
error_console = Console(stderr=True)

SuiteArgument = Annotated[
    str, typer.Argument(help="Name of a suite that ships with kdbench, or a YAML file.")
]
RunArgument = Annotated[Path, typer.Argument(help="A run directory, for example runs/quickstart.")]
DataRoot = Annotated[
    Path | None, typer.Option("--data-root", envvar="KDBENCH_DATA", help="Folder that holds the datasets.")
]
Seeds = Annotated[str | None, typer.Option("--seeds", help="Seeds instead of the suite's, such as 0,1,2.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Override a field of the suite: --set recipe.epochs=3.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print a list of objects instead of a table.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors and the result.")]
DeviceOption = Annotated[Literal["auto", "cpu", "cuda"], typer.Option("--device", help="Where to compute.")]


def main() -> None:
    """Run the command line; a UserError is one line on standard error and exit status 2."""
    # a terminal that knows no ± shall show another sign instead of an exception
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        app()
    except UserError as error:
        error_console.print(f"[bold red]error:[/] {_escaped(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(2)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _load_suite(name: str, seeds: str | None, overrides: list[str] | None) -> Suite:
    from kdbench.suite import Suite

    given = list(overrides or [])
    if seeds is not None:
        given.append(f"seeds=[{seeds}]")
    return Suite.load(name, given)


def _print_json(rows: Any) -> None:
    sys.stdout.write(json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


@app.command(epilog="Example: kdbench run quickstart --out runs/quickstart --set recipe.epochs=10")
def run(
    suite: SuiteArgument = "quickstart",
    out: Annotated[Path | None, typer.Option("--out", help="Run directory; default runs/NAME.")] = None,
    data_root: DataRoot = None,
    device: DeviceOption = "auto",
    seeds: Seeds = None,
    overrides: Overrides = None,
    teacher_store: Annotated[
        Path | None,
        typer.Option("--teacher-store", help="Folder whose teachers/ runs share; default that of --out."),
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed cells again.")] = False,
    quiet: Quiet = False,
) -> None:
    """Run a suite; run it again and it goes on where it was.

    Exit status: 0 when all cells are done, 1 when some failed, 2 when the request was wrong.
    """
    loaded = _load_suite(suite, seeds, overrides)
    from kdbench.console import ConsoleProgress
    from kdbench.progress import Progress
    from kdbench.report import render, write_report
    from kdbench.runner import run as run_suite

    arguments: dict[str, Any] = {
        "data_root": data_root,
        "device": device,
        "teacher_store": teacher_store,
        "retry_failed": retry_failed,
    }
    try:
        if quiet:
            outcome = run_suite(loaded, out, progress=Progress(), **arguments)
        else:
            with ConsoleProgress(out_console) as progress:
                outcome = run_suite(loaded, out, progress=progress, **arguments)
    except KeyboardInterrupt:
        error_console.print("stopped; the same command goes on from the last finished epoch")
        raise typer.Exit(130) from None
    page = write_report(outcome.path)
    if not quiet:
        render(outcome.path, out_console)
    counts = f"{outcome.ok} ok, {outcome.failed} failed, {outcome.skipped} skipped"
    out_console.print(f"\n{counts}. Next: open {page}", highlight=False, soft_wrap=True)
    if outcome.failed:
        raise typer.Exit(1)


@app.command(epilog="Example: kdbench plan quickstart --set seeds=[0,1]")
def plan(
    suite: SuiteArgument,
    data_root: DataRoot = None,
    seeds: Seeds = None,
    overrides: Overrides = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Time one step of every model and say how long it all takes.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the cells and cohorts of a suite."""
    loaded = _load_suite(suite, seeds, overrides)
    from kdbench.plan import make_plan

    made = make_plan(loaded, data_root)
    if as_json:
        _print_json(made.rows())
        return
    from kdbench.listing import plan_table

    out_console.print(plan_table(made))
    skipped = sum(cell.refusal is not None for cell in made.cells)
    out_console.print(
        f"{len(made.cells)} cells in {len(made.cohorts)} cohorts, {skipped} skipped; "
        f"teachers: {', '.join(teacher.label for teacher in made.teachers)}.",
        highlight=False,
    )
    if estimate:
        from kdbench.runner.estimate import estimate_seconds

        minutes = estimate_seconds(made, data_root) / 60
        out_console.print(f"Training takes about {minutes:.1f} minutes on this machine.", highlight=False)


@app.command(epilog="Example: kdbench compare runs/quickstart --metric nll")
def compare(
    path: RunArgument,
    metric: Annotated[str, typer.Option("--metric", help="Column to compare the methods by.")] = "top1",
    baseline: Annotated[
        str, typer.Option("--baseline", help="Method that others are compared with.")
    ] = "scratch",
    published: Annotated[
        bool,
        typer.Option("--published", help="Add the top-1 that papers report, and the difference from it."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print the comparison table of a run.

    Means with intervals over seeds, differences with corrected significance, Pareto marks.

    A published figure is that of the paper that proposes the method, else of CRD's table (ICLR 2020), else of
    the first paper in the table that ships with kdbench; what a run did otherwise than the papers is told.
    """
    from kdbench import report

    if as_json:
        _print_json(report.compare(path, metric, baseline, published))
    else:
        report.render(path, out_console, metric, baseline, published)


@app.command(epilog="Example: kdbench report runs/quickstart")
def report(
    path: RunArgument,
    out: Annotated[Path | None, typer.Option("--out", help="Folder; default RUN/report.")] = None,
) -> None:
    """Rewrite tables, figures and the HTML page.

    All of it is made anew from the records of the run; nothing is trained.
    """
    from kdbench.report import write_report
    from kdbench.store import RunDirectory, write_results

    write_results(RunDirectory.open(path))
    page = write_report(path, out)
    out_console.print(f"Wrote {page.parent}. Next: open {page}", highlight=False, soft_wrap=True)


@app.command(epilog="Example: kdbench measure resnet20 resnet8x4 --input 3,32,32 --classes 100 --json")
def measure(
    models: Annotated[list[str], typer.Argument(help="Names that a suite accepts: resnet20, my.py:net, ...")],
    input_shape: Annotated[str, typer.Option("--input", help="Channels, height, width.")] = "3,32,32",
    classes: Annotated[int, typer.Option("--classes", min=2, help="Number of classes.")] = 1000,
    against: Annotated[
        str | None, typer.Option("--against", help="Model that ratios refer to; default the first.")
    ] = None,
    batches: Annotated[str, typer.Option("--batch-sizes", help="Batch sizes to time.")] = "1,256",
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads.")] = None,
    device: DeviceOption = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure what models cost.

    Parameters, multiply-adds, bytes and latency; ratios refer to the first model, or to --against.
    """
    shape = _integers("--input", input_shape, 3)
    sizes = _integers("--batch-sizes", batches)
    from kdbench.console import ConsoleProgress
    from kdbench.efficiency import ModelJob, Protocol
    from kdbench.efficiency import measure as measure_models
    from kdbench.listing import measure_rows, measure_table
    from kdbench.models.registry import find_builder
    from kdbench.progress import Progress

    for name in models:
        find_builder(name)
    reference = against or models[0]
    names = list(dict.fromkeys([reference, *models]))
    devices = ("cpu", "cuda") if device == "auto" else (device,)
    protocol = Protocol(batch_sizes=sizes, devices=devices, threads=threads)
    arguments: dict[str, Any] = {
        "input_shape": shape,
        "num_classes": classes,
        "reference": reference if len(names) > 1 else None,
        "protocol": protocol,
    }
    jobs = [ModelJob(name, name, {}) for name in names]
    if quiet or as_json:
        found = measure_models(jobs, progress=Progress(), **arguments)
    else:
        with ConsoleProgress(error_console) as progress:
            found = measure_models(jobs, progress=progress, **arguments)
    rows = measure_rows(found)
    if as_json:
        _print_json(rows)
    else:
        out_console.print(measure_table(found, sizes))
    if any(row["params"] is None for row in rows):
        raise typer.Exit(1)


def _integers(option: str, text: str, count: int | None = None) -> tuple[int, ...]:
    try:
        values = tuple(int(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or min(values) < 1 or (count and len(values) != count):
        wanted = f"{count} positive integers" if count else "positive integers"
        raise UserError(f"{option} {text}: expected {wanted} separated by commas, for example 3,32,32.")
    return values


@app.command("list", epilog="Example: kdbench list methods")
def list_(
    kind: Annotated[str, typer.Argument(help="models, methods, datasets, metrics or suites.")],
    as_json: AsJson = False,
) -> None:
    """List what kdbench knows: name, one line, source."""
    from kdbench.listing import LISTINGS, listing_table

    if kind not in LISTINGS:
        raise unknown("kind", kind, LISTINGS)
    rows = LISTINGS[kind]()
    if as_json:
        _print_json(rows)
    else:
        out_console.print(listing_table(kind, rows))


@app.command(epilog="Example: kdbench check runs/quickstart")
def check(
    path: Annotated[Path, typer.Argument(help="A suite (name or file) or a run directory.")],
    data_root: DataRoot = None,
    records_only: Annotated[
        bool, typer.Option("--records-only", help="Weights and logits may be absent, as in a published run.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Validate a suite, or a run directory.

    A suite is checked without running it, a run directory for completeness and checksums.
    """
    if path.is_dir():
        from kdbench.store import check as check_run

        findings = [
            {"path": finding.path, "problem": finding.problem}
            for finding in check_run(path, records_only=records_only)
        ]
        praise = "complete, and every checksum holds"
    else:
        from kdbench.plan import make_plan

        make_plan(_load_suite(str(path), None, None), data_root)
        findings = []
        praise = "a valid suite"
    if as_json:
        _print_json(findings)
    else:
        for finding in findings:
            out_console.print(f"[red]{finding['path']}[/]: {_escaped(finding['problem'])}", highlight=False)
        if not findings:
            out_console.print(f"{path}: {praise}", highlight=False)
    if findings:
        raise typer.Exit(1)
