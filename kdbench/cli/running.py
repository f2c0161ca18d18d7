"""The commands that work on a suite: run it, plan it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdbench.cli.evaluating import print_remarks
from kdbench.cli.options import (
    AsJson,
    CodeTimeout,
    DataRoot,
    DeviceOption,
    MemoryBudget,
    Overrides,
    Quiet,
    Seeds,
    SuiteArgument,
    error_console,
    escaped,
    load_suite,
    out_console,
    print_failures,
    print_json,
)
from kdbench.code.foreign import LIMIT_S, limit

if TYPE_CHECKING:
    from kdbench.suite import Suite


def run(
    suite: SuiteArgument = "quickstart",
    out: Annotated[Path | None, typer.Option("--out", help="Run directory; default runs/NAME.")] = None,
    data_root: DataRoot = None,
    device: DeviceOption = "auto",
    seeds: Seeds = None,
    overrides: Overrides = None,
    teacher_store: Annotated[
        Path | None,
        typer.Option(
            "--teacher-store",
            help="Folder whose teachers runs share; default runs/ for a run in it, else the run itself.",
        ),
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed cells again.")] = False,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=1, max=4096, help="Processes that train cohorts at once.")
    ] = 1,
    executor: Annotated[
        str | None,
        typer.Option(
            "--executor", help="inline, processes, or path/file.py:Name; by default what --jobs asks for."
        ),
    ] = None,
    memory_budget: MemoryBudget = None,
    code_timeout: CodeTimeout = LIMIT_S,
    quiet: Quiet = False,
) -> None:
    """Run a suite; run it again and it goes on where it was.

    Exit status: 0 when all cells are done, 1 when some or a part of the report failed, 2 when the request was
    wrong.
    """
    limit(code_timeout)
    loaded = load_suite(suite, seeds, overrides)
    from kdbench.cli.console import progress_on
    from kdbench.memory import parse_size
    from kdbench.report import render, write_report
    from kdbench.report.attempts import Attempts
    from kdbench.runner import run as run_suite

    arguments: dict[str, Any] = {
        "data_root": data_root,
        "device": device,
        "teacher_store": teacher_store,
        "retry_failed": retry_failed,
        "jobs": jobs,
        "executor": executor,
        "memory_budget": None if memory_budget is None else parse_size(memory_budget),
    }
    failures: list[str] = []
    try:
        with progress_on(out_console, silent=quiet) as progress:
            outcome = run_suite(loaded, out, progress=progress, **arguments)
            page = write_report(outcome.path, failed=failures.append, progress=progress)
    except KeyboardInterrupt:
        error_console.print("stopped; the same command goes on from the last finished epoch")
        raise typer.Exit(130) from None
    if not quiet:
        attempts = Attempts()
        attempts.make("the table of this terminal", None, render, outcome.path, out_console)
        failures += map(str, attempts.broken)
    print_failures(failures)
    again = " (--retry-failed runs them again)" if outcome.failed else ""
    counts = f"{outcome.ok} ok, {outcome.failed} failed{again}, {outcome.skipped} skipped"
    out_console.print(f"\n{counts}. Next: open {escaped(page)}", soft_wrap=True)
    if outcome.failed or failures:
        raise typer.Exit(1)


def plan(
    suite: SuiteArgument,
    data_root: DataRoot = None,
    seeds: Seeds = None,
    overrides: Overrides = None,
    estimate: Annotated[
        bool,
        typer.Option(
            "--estimate", help="Time a step of every model; say how long all takes, in what memory."
        ),
    ] = False,
    memory_budget: MemoryBudget = None,
    code_timeout: CodeTimeout = LIMIT_S,
    as_json: AsJson = False,
) -> None:
    """Show the cells and cohorts of a suite, and whether its images go in memory."""
    limit(code_timeout)
    loaded = load_suite(suite, seeds, overrides)
    from kdbench.memory import as_text, default_budget, parse_size
    from kdbench.plan import make_plan
    from kdbench.plan.controls import describe_controls

    budget = default_budget() if memory_budget is None else parse_size(memory_budget)
    planned = make_plan(loaded, data_root)
    if as_json:
        print_json(planned.rows())
        return
    from kdbench.cli.listing import plan_table

    out_console.print(plan_table(planned))
    skipped = sum(cell.refusal is not None for cell in planned.cells)
    cohorts = "cohort" if len(planned.cohorts) == 1 else "cohorts"
    out_console.print(
        f"{len(planned.cells)} cells in {len(planned.cohorts)} {cohorts}, {skipped} skipped; "
        f"teachers: {escaped(', '.join(teacher.label for teacher in planned.teachers))}.",
    )
    if planned.heads:
        weights = loaded.dataset.heads
        further = (f"{head} ({n} classes, weight {weights[head]:g})" for head, n in planned.heads.items())
        out_console.print(f"A head each: {planned.num_classes} classes, {', '.join(further)}.")
    for line in describe_controls(planned):
        out_console.print(escaped(line))
    print_remarks(planned.remarks)
    out_console.print(escaped(_way_of_images(loaded, data_root, budget)), soft_wrap=True)
    if estimate:
        from kdbench.cli.console import ConsoleProgress
        from kdbench.runner.estimate import estimate as estimated

        with ConsoleProgress(error_console) as progress:
            forecast = estimated(planned, data_root, memory_budget=budget, progress=progress)
        for label, cohort in forecast.cohorts.items():
            parts = f"in {len(cohort.parts)} parts" if len(cohort.parts) > 1 else "together"
            out_console.print(
                f"Cohort {escaped(label)}: {sum(cohort.parts)} students train {parts}, which takes "
                f"{as_text(cohort.bytes)}; the budget is {as_text(budget)}.",
            )
        for line in forecast.lines():
            out_console.print(escaped(line))


def _way_of_images(suite: Suite, data_root: Path | None, budget: int) -> str:
    from kdbench.data import Augment, measure_dataset

    entry = suite.dataset
    needed = measure_dataset(
        entry.name,
        root=data_root,
        folder=entry.folder,
        validation_fraction=entry.validation_fraction,
        args=entry.args,
        augment=Augment(**entry.augment.model_dump()),
    )
    return needed.text(entry.name, budget)
