"""The command that checks: a suite before it runs, a run directory afterwards."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdbench.cli.evaluating import headline_line, print_remarks
from kdbench.cli.options import (
    AsJson,
    CodeTimeout,
    DataRoot,
    DeviceOption,
    error_console,
    escaped,
    load_suite,
    out_console,
    print_json,
)
from kdbench.code.foreign import LIMIT_S, limit
from kdbench.errors import UserError

if TYPE_CHECKING:
    from kdbench.plan import Plan
    from kdbench.runner.session import Device
    from kdbench.suite import Suite


@dataclass
class _Checked:
    """What a check says: its findings, what it says where there are none, and what is worth knowing."""

    findings: list[dict[str, str]]
    praise: str
    notes: list[str] = field(default_factory=list)
    teachers: list[dict[str, Any]] | None = None


def check(
    path: Annotated[Path, typer.Argument(help="A suite (name or file) or a run directory.")],
    data_root: DataRoot = None,
    records_only: Annotated[
        bool, typer.Option("--records-only", help="Weights and logits may be absent, as in a published run.")
    ] = False,
    accuracy: Annotated[
        bool,
        typer.Option(
            "--accuracy", help="Of a suite: evaluate teachers that come from a checkpoint on the test split."
        ),
    ] = False,
    device: DeviceOption = "auto",
    data: Annotated[
        bool, typer.Option("--data", help="Read all data of a suite once, and name every file that is bad.")
    ] = False,
    code_timeout: CodeTimeout = LIMIT_S,
    as_json: AsJson = False,
) -> None:
    """Validate a suite, or a run directory.

    A suite is checked without running it; its images are read with --data only. A run directory is checked
    for completeness and the checksums of its cells' files, and whether the data and the user's own code at
    hand, where there are any, are still what it was made of. With --accuracy --json prints an object of
    findings and teachers. Exit status: 1 where something is wrong.
    """
    limit(code_timeout)
    for option, chosen in (("--data", data), ("--accuracy", accuracy)):
        if path.is_dir() and chosen:
            raise UserError(f"{option} goes with a suite, and {path} is a folder: name the suite's file.")
    if path.is_dir():
        checked = _run(path, data_root, records_only)
    else:
        suite = load_suite(str(path), None, None)
        checked = _suite(suite, data_root, device, read=data, accuracy=accuracy, quiet=as_json)
    if as_json:
        findings = checked.findings
        print_json(
            findings if checked.teachers is None else {"findings": findings, "teachers": checked.teachers}
        )
    else:
        _print(path, checked)
    for note in checked.notes:
        (error_console if as_json else out_console).print(escaped(note), soft_wrap=True)
    if checked.findings:
        raise typer.Exit(1)


def _print(path: Path, checked: _Checked) -> None:
    for finding in checked.findings:
        what = f" ({escaped(finding['what'])})" if finding.get("what") else ""
        where, problem = escaped(finding["path"]), escaped(finding["problem"])
        out_console.print(f"[red]{where}[/]{what}: {problem}", soft_wrap=True)
    if not checked.findings:
        out_console.print(f"{escaped(path)}: {escaped(checked.praise)}", soft_wrap=True)


def _run(path: Path, data_root: Path | None, records_only: bool) -> _Checked:
    from kdbench.code.at_hand import compare_code
    from kdbench.data.at_hand import compare_data
    from kdbench.store import RunDirectory, earlier_note
    from kdbench.store import check as check_run
    from kdbench.suite import folder_of_paths

    findings = [asdict(finding) for finding in check_run(path, records_only=records_only)]
    praise = "complete, and the checksums of all cells' files hold"
    folder = folder_of_paths(path)
    run = RunDirectory.open(path)
    data = compare_data((*run.records(), *run.supporting()), data_root, folder)
    at_hand = [(f"data of {each.dataset}", each.fault, each.uncompared) for each in data]
    for code in compare_code(run, folder):
        at_hand.append((f"code of {code.what}", code.fault, code.uncompared and code.uncompared.rstrip(".")))
    for what, fault, uncompared in at_hand:
        if fault:
            findings.append({"path": str(path), "problem": fault, "what": ""})
        elif uncompared:
            praise += f"; not compared with the {what}: {uncompared}"
        else:
            praise += f"; the {what} is what it was"
    note = earlier_note(path)
    return _Checked(findings, praise, [note] if note else [])


def _suite(
    suite: Suite, data_root: Path | None, device: Device, *, read: bool, accuracy: bool, quiet: bool
) -> _Checked:
    from kdbench.cli.console import progress_on
    from kdbench.data import inspect_entry
    from kdbench.plan import make_plan

    with progress_on(error_console, silent=quiet) as progress:
        inspected = inspect_entry(suite.dataset, root=data_root, decode=read, progress=progress)
    findings = [{"path": suite.dataset.name, "problem": line, "what": ""} for line in inspected.lines]
    praise = (
        f"a valid suite, and its {inspected.images:,} images can be read"
        if read
        else "a valid suite; its images were not read (--data reads them)"
    )
    if findings:
        return _Checked(findings, praise)
    plan = make_plan(suite, data_root)
    teachers = _accuracies(plan, data_root, device, quiet) if accuracy else None
    return _Checked(findings, praise, [f"note: {remark}" for remark in plan.remarks], teachers)


def _accuracies(plan: Plan, data_root: Path | None, device: Device, quiet: bool) -> list[dict[str, Any]]:
    """Return how good the teachers are that come from a checkpoint, and print it unless JSON is asked for."""
    from kdbench.cli.console import progress_on
    from kdbench.runner.evaluate import teacher_accuracies

    with progress_on(error_console, silent=quiet) as progress:
        rows = teacher_accuracies(plan, data_root, device, progress)
    if not quiet:
        for row in rows:
            out_console.print(escaped(headline_line(row)), soft_wrap=True)
            print_remarks(row["remarks"])
    return rows
