"""What several commands share: the consoles, the options, and how they are read."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from kdbench.code.foreign import OPTION
from kdbench.errors import UserError
from kdbench.printable import coded, printable

if TYPE_CHECKING:
    from kdbench.suite import Suite


class Terminal(Console):
    """A console without emoji codes: what stands between colons is mostly a user's own name of something."""

    def __init__(self, *, stderr: bool = False) -> None:
        """Write to standard output, or to standard error."""
        super().__init__(stderr=stderr, emoji=False, highlight=False)

    def on_broken_pipe(self) -> None:
        """End the command without a word where its reader, such as ``head``, has gone."""
        try:
            super().on_broken_pipe()
        except SystemExit as ended:
            # As code of a user's own would end it: that is told.
            raise typer.Exit(1) from ended


out_console = Terminal()
error_console = Terminal(stderr=True)

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
MemoryBudget = Annotated[
    str | None,
    typer.Option(
        "--memory-budget",
        help="What training may hold, such as 8GB; images over it are streamed from disk. "
        "Default: half of the free memory.",
    ),
]
CodeTimeout = Annotated[
    float,
    typer.Option(
        OPTION,
        help="Seconds that a user's own factory, or a first forward pass, may take; 0: any number.",
    ),
]
DeviceOption = Annotated[Literal["auto", "cpu", "cuda"], typer.Option("--device", help="Where to compute.")]


def escaped(text: object) -> str:
    """Return text, a path or an error as rich prints it unchanged, on one line and without control signs."""
    from rich.markup import escape

    return escape(printable(str(text)))


def print_error(text: str) -> None:
    """Print the one line that says why a request ended."""
    error_console.print(f"[bold red]error:[/] {escaped(text)}", soft_wrap=True)


def print_failures(failures: Sequence[str]) -> None:
    """Print what parts of a report could not be made."""
    for text in failures:
        error_console.print(f"[bold red]failed:[/] {escaped(text)}", soft_wrap=True)


def load_suite(name: str, seeds: str | None, overrides: list[str] | None) -> Suite:
    """Return a suite with the overrides of the command line."""
    from kdbench.suite import Suite

    assignments = list(overrides or [])
    if seeds is not None:
        if not re.fullmatch(r"[\s\d,+-]*", seeds):
            raise UserError(f"--seeds {seeds}: write whole numbers, such as 0,1,2.")
        assignments.append(f"seeds=[{seeds}]")
    loaded = Suite.load(name, assignments)
    if loaded.sections:
        from kdbench.report.registry import SECTIONS
        from kdbench.suite.references import located

        # Only the report makes them; a name that is wrong is better known before the training.
        for section in loaded.sections:
            SECTIONS.find(located(section, loaded.paths_from))
    return loaded


def print_json(rows: Any) -> None:
    """Print rows as JSON on standard output."""
    text = json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False)
    sys.stdout.write("\n".join(map(coded, text.split("\n"))) + "\n")
