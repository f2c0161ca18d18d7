"""The command line: parse, call the API, print. What is slow to import is imported where it is used."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import typer

from kdbench.cli.checking import check
from kdbench.cli.evaluating import evaluate
from kdbench.cli.exporting import export
from kdbench.cli.measuring import measure
from kdbench.cli.options import error_console, print_error
from kdbench.cli.picking import pick
from kdbench.cli.reading import compare, list_, report
from kdbench.cli.running import plan, run
from kdbench.code.foreign import ProcessEnded, foreign
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


def _returning(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command that ends with a word, also where code of a user's own or an interrupt ends it."""

    @functools.wraps(command)
    def returning(*args: Any, **options: Any) -> None:
        try:
            with foreign(""):
                command(*args, **options)
        except ProcessEnded as ended:
            raise UserError(f"{ended}.") from ended
        except KeyboardInterrupt:
            error_console.print("stopped")
            raise typer.Exit(130) from None

    return returning


for command, example in COMMANDS:
    app.command(command.__name__.rstrip("_"), epilog=f"Example: {example}")(_returning(command))


def main() -> None:
    """Run the command line; a UserError is one line on standard error and exit status 2."""
    # a terminal that knows no ± shall show another sign instead of an exception
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        app()
    except UserError as error:
        print_error(str(error))
    except OSError as error:
        if error.filename is None:
            raise
        # What no part of kdbench has a better word for: a name that is too long, a folder of somebody else's.
        print_error(f"{error.filename}: {error.strerror}.")
    except GeneratorExit:  # no command ends so, unless code of a suite's does
        print_error("code of the suite raised GeneratorExit: it must return.")
    else:
        return
    sys.exit(2)
