"""The commands that work on a suite: run it, plan it, check it."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdbench.cli.options import (
    AsJson,
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
    print_json,
)

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
        typer.Option("--teacher-store", help="Folder whose teachers/ runs share; default that of --out."),
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed cells again.")] = False,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=1, help="Processes that train cohorts at once.")
    ] = 1,
    memory_budget: MemoryBudget = None,
    quiet: Quiet = False,
) -> None:
    """Run a suite; run it again and it goes on where it was.

    Exit status: 0 when all cells are done, 1 when some failed, 2 when the request was wrong.
    """
    loaded = load_suite(suite, seeds, overrides)
    from kdbench.console import ConsoleProgress
    from kdbench.memory import parse_size
    from kdbench.progress import Progress
    from kdbench.report import render, write_report
    from kdbench.runner import run as run_suite

    arguments: dict[str, Any] = {
        "data_root": data_root,
        "device": device,
        "teacher_store": teacher_store,
        "retry_failed": retry_failed,
        "jobs": jobs,
        "memory_budget": None if memory_budget is None else parse_size(memory_budget),
    }
    try:
        with nullcontext(Progress()) if quiet else ConsoleProgress(out_console) as progress:
            outcome = run_suite(loaded, out, progress=progress, **arguments)
            page = write_report(outcome.path, progress=progress)
    except KeyboardInterrupt:
        error_console.print("stopped; the same command goes on from the last finished epoch")
        raise typer.Exit(130) from None
    if not quiet:
        render(outcome.path, out_console)
    counts = f"{outcome.ok} ok, {outcome.failed} failed, {outcome.skipped} skipped"
    out_console.print(f"\n{counts}. Next: open {page}", highlight=False, soft_wrap=True)
    if outcome.failed:
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
    as_json: AsJson = False,
) -> None:
    """Show the cells and cohorts of a suite, and whether its images go in memory."""
    loaded = load_suite(suite, seeds, overrides)
    from kdbench.memory import as_text, default_budget, parse_size
    from kdbench.plan import make_plan
    from kdbench.plan.controls import describe_controls

    budget = default_budget() if memory_budget is None else parse_size(memory_budget)
    made = make_plan(loaded, data_root)
    if as_json:
        print_json(made.rows())
        return
    from kdbench.listing import plan_table

    out_console.print(plan_table(made))
    skipped = sum(cell.refusal is not None for cell in made.cells)
    cohorts = "cohort" if len(made.cohorts) == 1 else "cohorts"
    out_console.print(
        f"{len(made.cells)} cells in {len(made.cohorts)} {cohorts}, {skipped} skipped; "
        f"teachers: {', '.join(teacher.label for teacher in made.teachers)}.",
        highlight=False,
    )
    if made.tasks:
        weights = loaded.dataset.tasks
        further = (f"{task} ({n} classes, weight {weights[task]:g})" for task, n in made.tasks.items())
        out_console.print(f"A head each: {made.num_classes} classes, {', '.join(further)}.", highlight=False)
    for line in describe_controls(made):
        out_console.print(line, highlight=False)
    out_console.print(
        _way_of_images(loaded, data_root, budget), highlight=False, soft_wrap=True, markup=False
    )
    if estimate:
        from kdbench.console import ConsoleProgress
        from kdbench.runner.estimate import estimate as estimated

        with ConsoleProgress(error_console) as progress:
            found = estimated(made, data_root, memory_budget=budget, progress=progress)
        for label, cohort in found.cohorts.items():
            parts = f"in {len(cohort.parts)} parts" if len(cohort.parts) > 1 else "together"
            out_console.print(
                f"Cohort {label}: {sum(cohort.parts)} students train {parts}, which takes "
                f"{as_text(cohort.bytes)}; the budget is {as_text(budget)}.",
                highlight=False,
            )
        for line in found.lines():
            out_console.print(line, highlight=False)


def _way_of_images(suite: Suite, data_root: Path | None, budget: int) -> str:
    from kdbench.data import Augment, measure_dataset

    entry = suite.dataset
    needed = measure_dataset(
        entry.name,
        root=data_root,
        validation_fraction=entry.validation_fraction,
        args=entry.args,
        augment=Augment(**entry.augment.model_dump()),
    )
    return needed.text(entry.name, budget)


def check(
    path: Annotated[Path, typer.Argument(help="A suite (name or file) or a run directory.")],
    data_root: DataRoot = None,
    records_only: Annotated[
        bool, typer.Option("--records-only", help="Weights and logits may be absent, as in a published run.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Validate a suite, or a run directory.

    A suite is checked without running it, a run directory for completeness and checksums, and whether the
    data at hand, where there is any, is still what it was made of.
    """
    if path.is_dir():
        from kdbench.data.at_hand import compare_data
        from kdbench.store import RunDirectory
        from kdbench.store import check as check_run

        findings = [
            {"path": finding.path, "problem": finding.problem}
            for finding in check_run(path, records_only=records_only)
        ]
        praise = "complete, and every checksum holds"
        for comparison in compare_data(RunDirectory.open(path).records(), data_root):
            if comparison.fault:
                findings.append({"path": str(path), "problem": comparison.fault})
            elif comparison.uncompared:
                why = escaped(comparison.uncompared)
                praise += f"; not compared with the data of {escaped(comparison.dataset)}: {why}"
            else:
                praise += f"; the data of {escaped(comparison.dataset)} is what it was"
    else:
        from kdbench.plan import make_plan

        make_plan(load_suite(str(path), None, None), data_root)
        findings = []
        praise = "a valid suite"
    if as_json:
        print_json(findings)
    else:
        for finding in findings:
            out_console.print(f"[red]{finding['path']}[/]: {escaped(finding['problem'])}", highlight=False)
        if not findings:
            out_console.print(f"{path}: {praise}", highlight=False)
    if findings:
        raise typer.Exit(1)
