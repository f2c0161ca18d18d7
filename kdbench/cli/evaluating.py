"""The command that evaluates one model, and how the terminal shows what was found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdbench.cli.options import (
    CodeTimeout,
    DataRoot,
    DeviceOption,
    MemoryBudget,
    Quiet,
    error_console,
    escaped,
    out_console,
    print_json,
)
from kdbench.code.foreign import LIMIT_S, limit
from kdbench.heads import head_of, plain

if TYPE_CHECKING:
    from rich.table import Table


def evaluate(
    model: Annotated[
        str, typer.Argument(help="A name that a suite accepts: resnet20, torchvision:resnet18, my.py:net.")
    ],
    dataset: Annotated[
        str, typer.Option("--dataset", help="A name of 'kdbench list datasets', or folder:PATH, ...")
    ],
    checkpoint: Annotated[
        str | None, typer.Option("--checkpoint", help="The file of its weights: .pth, .pt, .safetensors, ...")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="A field of model or dataset as a suite has them: --set dataset.args.size=32, "
            "--set dataset.args.mean=[0.5,0.5,0.5], --set model.args.width=16.",
        ),
    ] = None,
    data_root: DataRoot = None,
    device: DeviceOption = "auto",
    memory_budget: MemoryBudget = None,
    code_timeout: CodeTimeout = LIMIT_S,
    as_json: Annotated[bool, typer.Option("--json", help="Print one object instead of a table.")] = False,
    quiet: Quiet = False,
) -> None:
    """Evaluate one model on the test split of a dataset.

    Prints accuracy, negative log-likelihood, calibration error and the number of parameters. Data and metrics
    are those of a suite with the same dataset; dataset.args takes size, channels, limit, limit_test, mean,
    std and what the source itself takes. Without mean and std they are those of the training images.
    """
    limit(code_timeout)
    from kdbench.cli.console import progress_on
    from kdbench.memory import parse_size
    from kdbench.runner.evaluate import evaluate as evaluate_model

    with progress_on(error_console, silent=quiet or as_json) as progress:
        scores = evaluate_model(
            model,
            dataset,
            checkpoint=checkpoint,
            overrides=overrides or (),
            data_root=data_root,
            device=device,
            memory_budget=None if memory_budget is None else parse_size(memory_budget),
            progress=progress,
        )
    if as_json:
        print_json(scores)
        return
    out_console.print(evaluation_table(scores))
    if not quiet:
        print_remarks(scores["remarks"])


def evaluation_table(scores: Mapping[str, Any]) -> Table:
    """Return what was found of one model as a terminal table; what is missing is a dash with its reason."""
    from rich.box import SIMPLE
    from rich.table import Table

    columns, reasons = _columns(), scores["reasons"]
    images = f"{scores['examples']:,} test images"
    notes = [
        f"missing {escaped(name)}: {escaped(text)}" for name, text in reasons.items() if _worth_a_word(name)
    ]
    table = Table(
        title=f"{escaped(scores['dataset'])}: {images}, {scores['classes']} classes",
        caption="\n".join(notes) or None,
        box=SIMPLE,
    )
    table.add_column("quantity")
    table.add_column("unit")
    table.add_column(escaped(scores["model"]), justify="right")
    for name, value in scores.items():
        column = columns.get(plain(name))
        if column is None or (value is None and not _worth_a_word(name)):
            continue
        head = f"{head_of(name)}: " if head_of(name) else ""
        share = column.scale == "percent"
        shown = "–" if value is None else f"{100 * value:.2f}" if share else f"{value:.4f}"
        table.add_row(f"{escaped(head)}{column.title} {column.arrow}", "%" if share else column.unit, shown)
    table.add_row("Parameters", "", f"{scores['params']:,}")
    return table


def headline_line(scores: Mapping[str, Any]) -> str:
    """Return what was found of one teacher in a line, the metric that leads first."""
    headline, columns = scores["headline"], _columns()
    title = columns[headline].title
    if scores[headline] is None:
        return f"teacher {scores['model']}: no {title}: {scores['reasons'][headline]}"
    others = {name: value for name, value in scores.items() if name in columns and name != headline}
    figures = [f"{name} {value:.4f}" for name, value in others.items() if value is not None]
    return (
        f"teacher {scores['model']}: {title} {scores[headline]:.2%} on {scores['examples']:,} test images, "
        f"{', '.join(figures)}, {scores['params']:,} parameters"
    )


def print_remarks(remarks: Iterable[str]) -> None:
    """Print what a person should know, a line each."""
    for remark in remarks:
        out_console.print(f"[bold yellow]note:[/] {escaped(remark)}", soft_wrap=True)


def _worth_a_word(name: str) -> bool:
    """Return whether it is worth a word that a metric is missing: nobody expects five of few classes."""
    return plain(name) != "top5"


def _columns() -> Mapping[str, Any]:
    from kdbench.metrics import catalogue

    return catalogue()
