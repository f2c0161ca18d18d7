"""The command line: parse, call the API, print. What is slow to import is imported where it is used."""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer

from kdbench.cli.checking import check
from kdbench.cli.evaluating import evaluate
from kdbench.cli.exporting import export
from kdbench.cli.measuring import measure
from kdbench.cli.options import error_console, escaped
from kdbench.cli.picking import pick
from kdbench.cli.reading import compare, list_, report
from kdbench.cli.running import plan, run
from kdbench.errors import UserError

__all__ = ["app", "main"]

app = typer.Typer(
    name="kdbench",
    help="Benchmark knowledge distillation: what a smaller model gains, what it loses, and whether the "
    "difference is real.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# In the order in which the help shows them, each with an example.
COMMANDS: tuple[tuple[Callable[..., None], str], ...] = (
    (run, "kdbench run quickstart --out runs/quickstart --set recipe.epochs=10"),
    (plan, "kdbench plan quickstart --set seeds=[0,1]"),
    (compare, "kdbench compare runs/quickstart --metric nll"),
    (pick, "kdbench pick runs/quickstart --max size_bytes=50000 --min top1=90%"),
    (report, "kdbench report runs/quickstart"),
    (measure, "kdbench measure resnet20 resnet8x4 --input 3,32,32 --classes 100 --json"),
    (evaluate, "kdbench evaluate resnet20 --checkpoint resnet20.pth --dataset cifar10 --data-root data"),
    (export, "kdbench export runs/quickstart/nodes/0123456789ab --to onnx --out student.onnx"),
    (list_, "kdbench list methods"),
    (check, "kdbench check runs/quickstart"),
)
for command, example in COMMANDS:
    app.command(command.__name__.rstrip("_"), epilog=f"Example: {example}")(command)


def main() -> None:
    """Run the command line; a UserError is one line on standard error and exit status 2."""
    # a terminal that knows no ± shall show another sign instead of an exception
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        app()
    except UserError as error:
        error_console.print(f"[bold red]error:[/] {escaped(str(error))}", soft_wrap=True)
        sys.exit(2)
