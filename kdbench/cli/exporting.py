"""The command that turns a trained student into a file to deploy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from kdbench.cli.options import AsJson, CodeTimeout, DataRoot, escaped, out_console, print_json
from kdbench.code.foreign import LIMIT_S, limit


def export(
    cell: Annotated[str, typer.Argument(help="A cell: its id, or its folder RUN/nodes/ID.")],
    to: Annotated[Literal["onnx", "torch-export", "safetensors"], typer.Option("--to", help="The format.")],
    run: Annotated[
        Path | None, typer.Option("--run", help="The run that holds the cell; default all in runs/.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The file; default the cell's id with the format's suffix.")
    ] = None,
    best: Annotated[
        bool, typer.Option("--best", help="Weights of the epoch best on validation instead of the last.")
    ] = False,
    data_root: DataRoot = None,
    code_timeout: CodeTimeout = LIMIT_S,
    as_json: AsJson = False,
) -> None:
    """Export the trained student of a cell, to deploy it.

    The file is read back and its logits compared with the student's; it is written only if they are equal
    within rounding. It takes any batch size. What a user of the model must know (normalisation, classes)
    stands in it, or in a JSON file beside it.
    """
    limit(code_timeout)
    from kdbench.exporting import export as export_student
    from kdbench.exporting import find_cell, trained_student

    directory, id = find_cell(cell, run)
    student = trained_student(directory, id, best=best, data_root=data_root)
    exported = export_student(student, to, out)
    if as_json:
        print_json(exported.as_json())
        return
    beside = f" and {exported.card}" if exported.card else ""
    wrote = f"Wrote {exported.path} ({exported.bytes:,} bytes){beside}: {exported.parity}."
    out_console.print(escaped(wrote), soft_wrap=True)
