"""The command that measures models."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from kdbench.cli.options import AsJson, DeviceOption, Quiet, error_console, out_console, print_json
from kdbench.errors import UserError


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
    counts_only: Annotated[bool, typer.Option("--counts-only", help="Count, but time nothing.")] = False,
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
    devices = () if counts_only else ("cpu", "cuda") if device == "auto" else (device,)
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
        print_json(rows)
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
