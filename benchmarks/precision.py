"""What bf16 training costs in accuracy: the cells of suites trained in fp32 and in bf16, paired by seed.

    python benchmarks/precision.py quickstart --out results/precision
    python benchmarks/precision.py fashion-mnist --data-root DATA --set recipe.epochs=4

Every cell is trained twice, teachers too, from the same first weights on the same batches; only the
arithmetic of training differs. Evaluation is fp32 in both. The difference is top-1 of bf16 less top-1 of
fp32 on the test split; an interval is Student's t over pairs. Cells of one seed share teacher and batches,
so the interval over all cells takes the mean of each seed as one value.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

import kdbench
from kdbench import machine
from kdbench.analysis.intervals import t_interval
from kdbench.errors import UserError
from kdbench.store import write_atomic, write_json

PRECISIONS = ("fp32", "bf16")
CELL = ["teacher", "student", "method", "seed"]


def main() -> None:
    """Run the suites in both precisions and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("suites", nargs="+", help="names or files of suites")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a field")
    parser.add_argument(
        "--data-root",
        type=Path,
        default=os.environ.get("KDBENCH_DATA"),
        help="folder that holds the datasets, by default that of KDBENCH_DATA",
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/precision"), help="where the runs go")
    parser.add_argument("--out", type=Path, help="folder for precision.json and precision.md")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    options = parser.parse_args()
    try:
        rows = [
            row
            for suite in options.suites
            for row in compared(suite, options.set, options.runs, options.data_root)
        ]
    except UserError as error:
        parser.exit(2, f"{error}\n")
    text = as_markdown(rows, options.set)
    print(json.dumps(rows, indent=1) if options.json else text)
    if options.out:
        write_json(options.out / "precision.json", {"rows": rows, "conditions": conditions(options.set)})
        write_atomic(options.out / "precision.md", text)


def compared(name: str, overrides: list[str], runs: Path, data_root: Path | None) -> list[dict[str, Any]]:
    """Return one row a student and method of a suite, and one over all its cells."""
    frames = {}
    for precision in PRECISIONS:
        given = [*overrides, f"recipe.precision={precision}", "measure.latency=false"]
        outcome = kdbench.run(
            kdbench.Suite.load(name, given), runs / f"{name}-{precision}", data_root=data_root
        )
        frames[precision] = kdbench.load(outcome.path)
    return paired(name, frames["fp32"], frames["bf16"])


def paired(name: str, fp32: pd.DataFrame, bf16: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of two runs that differ in precision alone; cells that failed in one are left out."""
    parts = [
        frame.loc[(frame.role == "student") & (frame.status == "ok"), [*CELL, "top1"]]
        for frame in (fp32, bf16)
    ]
    cells = parts[0].merge(parts[1], on=CELL, suffixes=("_fp32", "_bf16"))
    cells["difference"] = cells.top1_bf16 - cells.top1_fp32
    rows = [
        row(name, student, method, group.difference, len(group), group)
        for (student, method), group in cells.groupby(["student", "method"], sort=False)
    ]
    by_seed = cells.groupby("seed").difference.mean()
    return [*rows, row(name, "all", "all", by_seed, len(cells), cells)]


def row(
    suite: str, student: str, method: str, differences: Iterable[float], cells: int, group: pd.DataFrame
) -> dict[str, Any]:
    """Return the difference in points with its interval."""
    interval = t_interval(differences)
    return {
        "suite": suite,
        "student": student,
        "method": method,
        "cells": cells,
        "seeds": interval.n,
        "top1_fp32": float(group.top1_fp32.mean()),
        "top1_bf16": float(group.top1_bf16.mean()),
        "difference": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "reason": interval.reason,
    }


def conditions(overrides: list[str]) -> dict[str, Any]:
    """Return what the runs were made with."""
    return {"machine": machine.fingerprint(), "versions": machine.versions(), "overrides": overrides}


def as_markdown(rows: list[dict[str, Any]], overrides: list[str]) -> str:
    """Return the table as Markdown."""
    made_on = machine.fingerprint()
    lines = [
        "# Training in bf16 against fp32",
        "",
        "| suite | student | method | cells | fp32 (%) | bf16 (%) | difference (points) | 95 % interval |",
        "| :-- | :-- | :-- | --: | --: | --: | --: | :-- |",
    ]
    for entry in rows:
        interval = (
            f"{100 * entry['low']:+.2f} to {100 * entry['high']:+.2f}"
            if entry["low"] is not None
            else f"none: {entry['reason']}"
        )
        lines.append(
            f"| {entry['suite']} | {entry['student']} | {entry['method']} | {entry['cells']} "
            f"| {100 * entry['top1_fp32']:.2f} | {100 * entry['top1_bf16']:.2f} "
            f"| {100 * entry['difference']:+.2f} | {interval} |"
        )
    versions = machine.versions()
    lines += [
        "",
        f"Top-1 on the test split, last epoch, n = {rows[-1]['seeds']} seeds; t intervals over seeds, "
        "teachers trained in the same precision as their students.",
        f"Overrides: {', '.join(overrides) or 'none'}. {made_on['cpu']}, torch {versions['torch']}, "
        f"kdbench {machine.git_commit() or versions['kdbench']}.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
