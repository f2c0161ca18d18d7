"""The command that measures models."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from kdbench.cli.options import (
    AsJson,
    CodeTimeout,
    DeviceOption,
    Quiet,
    error_console,
    out_console,
    print_json,
)
from kdbench.code.foreign import LIMIT_S, limit
from kdbench.errors import UserError
from kdbench.inputs import InputSpec


def measure(
    models: Annotated[
        list[str],
        typer.Argument(help="Names that a suite accepts: resnet20, my.py:net, ...; or nodes: RUN/nodes/ID."),
    ],
    image: Annotated[
        str | None,
        typer.Option("--input", help="Channels, height, width; default 3,32,32, or as in the node's run."),
    ] = None,
    classes: Annotated[
        int | None,
        typer.Option(
            "--classes",
            min=2,
            max=1_000_000,
            help="Number of classes; default 1000, or as in the node's run.",
        ),
    ] = None,
    against: Annotated[
        str | None, typer.Option("--against", help="Model that ratios refer to; default the first.")
    ] = None,
    batches: Annotated[str, typer.Option("--batch-sizes", help="Batch sizes to time.")] = "1,256",
    threads: Annotated[
        str, typer.Option("--threads", help="CPU threads: a number, all, or several such as 1,all.")
    ] = "all",
    runtimes: Annotated[
        str, typer.Option("--runtimes", help="Of eager, compile, export, onnx and graph (CUDA).")
    ] = "eager",
    precision: Annotated[str, typer.Option("--precision", help="fp32, or fp32,bf16.")] = "fp32",
    memory: Annotated[
        bool, typer.Option("--memory", help="Take the peak memory, in processes of its own.")
    ] = False,
    energy: Annotated[bool, typer.Option("--energy", help="Take the energy by RAPL or NVML.")] = False,
    repeat: Annotated[
        int,
        typer.Option("--repeat", min=1, max=1000, help="Measure so often, and show how far the runs spread."),
    ] = 1,
    counts_only: Annotated[
        bool, typer.Option("--counts-only", help="Time nothing: parameters, multiply-adds, bytes.")
    ] = False,
    device: DeviceOption = "auto",
    code_timeout: CodeTimeout = LIMIT_S,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure what models cost.

    Parameters, multiply-adds, bytes and latency; ratios refer to the first model, or to --against. Of a
    node, its own trained and compressed network is measured.
    """
    limit(code_timeout)
    inputs = InputSpec.image(_integers("--input", image or "3,32,32", 3))
    sizes = _integers("--batch-sizes", batches)
    from kdbench.cli.console import progress_on
    from kdbench.cli.cost_table import measure_rows, measure_table
    from kdbench.efficiency import ModelJob, Protocol, columns
    from kdbench.efficiency import measure as measure_models
    from kdbench.efficiency.places import Dimensions, split_threads
    from kdbench.efficiency.repeats import Repeats
    from kdbench.exporting.measured import is_node, node_jobs
    from kdbench.models.registry import find_builder

    reference = against or models[0]
    names = list(dict.fromkeys([reference, *models]))
    nodes, outputs = [name for name in names if is_node(name)], classes or 1000
    jobs = {name: ModelJob(name, name, {}) for name in names if name not in nodes}
    for name in jobs:
        find_builder(name)
    if nodes:
        if image or classes:
            raise UserError("--input and --classes are those of the node's run: leave them out.")
        own, inputs, outputs = node_jobs(nodes)
        jobs |= own
    own_threads, further_threads = split_threads(_threads(threads))
    dimensions = Dimensions(_names(runtimes), _names(precision), further_threads, memory, energy)
    if counts_only and (repeat > 1 or dimensions != Dimensions()):
        raise UserError(
            "--counts-only times nothing: leave it out, or --repeat, --runtimes, --precision, --memory, "
            "--energy and several --threads."
        )
    devices = () if counts_only else ("cpu", "cuda") if device == "auto" else (device,)
    protocol = Protocol(batch_sizes=sizes, devices=devices, threads=own_threads, dimensions=dimensions)
    arguments: dict[str, Any] = {
        "inputs": inputs,
        "num_classes": outputs,
        "reference": jobs[reference].label if len(names) > 1 else None,
        "protocol": protocol,
    }
    with progress_on(error_console, silent=quiet or as_json) as progress:
        reports = [
            measure_models([jobs[name] for name in names], progress=progress, **arguments)
            for _ in range(repeat)
        ]
    repeats = Repeats(tuple(reports))
    measured = columns(sizes, dimensions)
    rows = measure_rows(repeats, measured)
    if as_json:
        print_json(rows)
    else:
        out_console.print(measure_table(repeats, measured))
    if any(row["params"] is None for row in rows):
        raise typer.Exit(1)


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


def _threads(text: str) -> list[int | str]:
    from kdbench.suite.plain import MOST_THREADS, cut

    parts = _names(text)
    if not all(part == "all" or part in map(str, range(1, MOST_THREADS + 1)) for part in parts):
        raise UserError(
            f"--threads {cut(text)}: expected positive integers or 'all', for example 1 or 1,all; "
            f"{MOST_THREADS} is the most."
        )
    return [part if part == "all" else int(part) for part in parts]


def _integers(option: str, text: str, count: int | None = None) -> tuple[int, ...]:
    from kdbench.suite.plain import MOST_AT_ONCE, cut

    try:
        values = tuple(int(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or min(values) < 1 or max(values) > MOST_AT_ONCE or (count and len(values) != count):
        wanted = f"{count} positive integers" if count else "positive integers"
        raise UserError(
            f"{option} {cut(text)}: expected {wanted} separated by commas, for example 3,32,32; "
            f"{MOST_AT_ONCE:,} is the most."
        )
    return values
