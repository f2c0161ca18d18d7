#!/usr/bin/env python3
"""How fast kdbench trains, beside the loop that the field writes and beside torchdistill, in one run.

    python benchmarks/speed.py --quick                     a table in a few minutes
    python benchmarks/speed.py --out results/speed         the full table, as speed.json and speed.md
    python benchmarks/speed.py --precision auto fp32 --json

Every pair of models is timed in rounds, in which each loop has a turn: kdbench's engine with each number of
methods, the conventional loop with each method, torchdistill with KD (its cheapest method; ``pip install
'kdbench[speed]'``). What slows the machine for a while slows all of a round, so a ratio is the median of the
rounds' ratios. The last two train one student after another, so n students take the sum of their times.

The images are random, of CIFAR-100's shape, and in memory: nothing is read from a disk in any loop. Neither
validation nor checkpoints are part of any loop's time; what kdbench does after the last step of an epoch is
timed by itself and is part of its overhead.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

import torch
from loops import cohort, conventional, torchdistill_box
from loops.limits import engine_overhead, matrix_peak
from loops.task import INPUTS, METHODS, SHAPE, Task, zoo_task
from rich.console import Console

from kdbench import machine
from kdbench.cli.console import ConsoleProgress
from kdbench.efficiency.counts import count_multiply_adds
from kdbench.efficiency.protocol import Protocol
from kdbench.errors import UserError
from kdbench.progress import Progress
from kdbench.runner.session import resolve_device
from kdbench.store import write_atomic, write_json
from kdbench.training.precision import Precision, resolve

PAIRS = ("resnet32x4:resnet8x4", "wrn_40_2:wrn_16_2", "resnet56:resnet20")
CIFAR_IMAGES = 50_000

# Rounds and steps. A GPU needs more steps, for the loops' workers decode four batches ahead of the clock.
FULL = {"cpu": (5, 10), "cuda": (7, 200)}
QUICK = {"cpu": (3, 1), "cuda": (3, 50)}

LEGEND = """\
- **img/s**: student-images a second, the images that all students together are trained on; the median of
  the rounds.
- **× conventional**, **× torchdistill**: how many times as many student-images a second kdbench trains; the
  median of the rounds' ratios, in brackets the lowest and the highest.
- **conventional**: one student at a time, the teacher again every step, fp32, contiguous NCHW, `DataLoader`
  with PIL images and torchvision's transforms, `torch.optim.SGD`, `loss.item()` every step; the losses are
  kdbench's own.
- **torchdistill**: its `DistillationBox` with KD for every student, on the same images and transforms, fp32.
- **of peak**: the share of the machine's matrix-multiply peak in the same precision that kdbench reaches, at
  2 · (MACs of the teacher + 3 · MACs of each student) FLOP an image; losses and adapters are not counted.
- **overhead**: the share of an epoch of CIFAR-100 that is the engine's own: what it adds to each step of each
  student, measured with a null model against a bare loop, and what it does after an epoch's last step."""


@dataclass
class Round:
    """The seconds of one round: turns of kdbench by methods and precision; steps of the other loops."""

    kdbench: dict[tuple[int, Precision], cohort.Turn] = field(default_factory=dict)
    conventional: dict[str, float] = field(default_factory=dict)
    torchdistill: float | None = None


def time_pair(
    task: Task,
    counts: Sequence[int],
    precisions: Sequence[Precision],
    rounds: int,
    workers: int,
    progress: Progress,
) -> list[Round]:
    """Time a pair in rounds in which every loop has a turn."""
    ours = [(count, precision) for count in counts for precision in precisions]
    theirs = METHODS[: max(counts)]
    with_torchdistill = torchdistill_box.missing() is None
    turns = len(ours) + len(theirs) + with_torchdistill
    found = []
    for number in range(1, rounds + 1):
        progress.begin(f"{task.name}, round {number} of {rounds}", turns, "turn")
        started = time.perf_counter()
        one = Round()
        for count, precision in ours:
            one.kdbench[count, precision] = cohort.take_turn(task, METHODS[:count], precision)
            progress.advance(len(one.kdbench), "kdbench")
        for method in theirs:
            one.conventional[method] = conventional.take_turn(task, method, workers)
            progress.advance(len(ours) + len(one.conventional), "conventional")
        if with_torchdistill:
            one.torchdistill = torchdistill_box.take_turn(task, workers)
            progress.advance(turns, "torchdistill")
        progress.end(f"{time.perf_counter() - started:.0f} s")
        found.append(one)
    return found


def row(
    task: Task, count: int, precision: Precision, rounds: Sequence[Round], peak: float, overhead: float
) -> dict[str, Any]:
    """Return one row of the table.

    ``peak`` is in FLOP/s and ``overhead`` in seconds of a student-step, both of this precision. Rates are
    student-images a second; ``ratio_..._range`` is the lowest and the highest of the rounds.
    """
    turns = [one.kdbench[count, precision] for one in rounds]
    ours = [count * task.batch_size / turn.step for turn in turns]
    usual = [count * task.batch_size / sum(one.conventional[m] for m in METHODS[:count]) for one in rounds]
    box = [task.batch_size / one.torchdistill for one in rounds if one.torchdistill is not None]
    step, epoch_end = median(turn.step for turn in turns), median(turn.epoch_end for turn in turns)
    macs = [count_multiply_adds(model, INPUTS).headline for model in (task.teacher, task.student)]
    flops = 2 * task.batch_size * (macs[0] + 3 * count * macs[1]) / step
    epoch_steps = math.ceil(CIFAR_IMAGES / task.batch_size)
    epoch_overhead = epoch_steps * count * overhead + epoch_end
    reason = torchdistill_box.missing() if not box else None
    return {
        "pair": task.name,
        "teacher": task.names[0],
        "student": task.names[1],
        "methods": count,
        "method_names": list(METHODS[:count]),
        "precision": precision,
        "device": task.device.type,
        "kdbench_images_per_s": _round(median(ours)),
        "conventional_images_per_s": _round(median(usual)),
        "torchdistill_images_per_s": _round(median(box)) if box else None,
        "ratio_conventional": _ratio(ours, usual, median),
        "ratio_conventional_range": [_ratio(ours, usual, min), _ratio(ours, usual, max)],
        "ratio_torchdistill": _ratio(ours, box, median) if box else None,
        "ratio_torchdistill_range": [_ratio(ours, box, min), _ratio(ours, box, max)] if box else None,
        "share_of_peak": _round(flops / peak),
        "flops_per_s": _round(flops),
        "peak_flops_per_s": _round(peak),
        "overhead_us_per_student_step": _round(1e6 * overhead),
        "overhead_s_per_epoch_end": _round(epoch_end),
        "overhead_share": _round(epoch_overhead / (epoch_steps * step + epoch_end)),
        "rounds": len(rounds),
        "reasons": {"torchdistill_images_per_s": reason, "ratio_torchdistill": reason} if reason else {},
    }


def _ratio(ours: Sequence[float], theirs: Sequence[float], choose: Callable[..., float]) -> float:
    return _round(choose(mine / other for mine, other in zip(ours, theirs, strict=True)))


def _round(value: float) -> float:
    return float(f"{value:.4g}")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows in Markdown, and the geometric means of the pairs."""
    lines = [
        "| pair | methods | precision | kdbench img/s | conventional img/s | torchdistill img/s "
        "| × conventional | × torchdistill | of peak | overhead |",
        "|---|--:|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for one in rows:
        cells = (
            one["pair"],
            one["methods"],
            one["precision"],
            *(_number(one[f"{loop}_images_per_s"]) for loop in ("kdbench", "conventional", "torchdistill")),
            *(_with_range(one, f"ratio_{loop}") for loop in ("conventional", "torchdistill")),
            f"{one['share_of_peak']:.0%}",
            f"{one['overhead_share']:.1%}",
        )
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    for group in dict.fromkeys((one["methods"], one["precision"]) for one in rows):
        of_group = [one for one in rows if (one["methods"], one["precision"]) == group]
        ratios = [one["ratio_conventional"] for one in of_group]
        boxes = [one["ratio_torchdistill"] for one in of_group if one["ratio_torchdistill"] is not None]
        means = [f"**{geometric_mean(part):.2f}**" if part else "–" for part in (ratios, boxes)]
        lines.append(f"| geometric mean | {group[0]} | {group[1]} | | | | {means[0]} | {means[1]} | | |")
    notes = [
        f"{one['precision']}: the matrix-multiply peak is {one['peak_flops_per_s'] / 1e9:,.0f} GFLOP/s; "
        f"the engine adds {one['overhead_us_per_student_step']:.0f} µs to a step of a student."
        for one in {one["precision"]: one for one in rows}.values()
    ]
    notes += dict.fromkeys(f"–: {reason}." for one in rows for reason in one["reasons"].values())
    return "\n".join(lines) + "\n\n" + "\n\n".join(notes)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _with_range(one: Mapping[str, Any], name: str) -> str:
    if one[name] is None:
        return "–"
    low, high = one[f"{name}_range"]
    return f"{one[name]:.2f} ({low:.2f}–{high:.2f})"


def write(folder: Path, rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> None:
    """Write ``speed.json`` and ``speed.md``: the table with the hardware, the versions and the settings."""
    hardware, versions = machine.fingerprint(), machine.versions() | _further_versions()
    write_json(
        folder / "speed.json",
        {
            "settings": settings,
            "machine": hardware,
            "versions": versions,
            "git": machine.git_commit(Path(__file__).parent),
            "rows": rows,
        },
    )
    described = [
        f"{hardware['cpu']}, {settings['threads']} threads, {hardware['memory_gib']} GiB",
        *(gpu["name"] for gpu in hardware["gpus"]),
        hardware["os"],
        ", ".join(f"{name} {number}" for name, number in versions.items() if number),
        ", ".join(f"{name} {value}" for name, value in settings.items()),
    ]
    text = ["# Speed", table(rows), LEGEND, "\n".join(f"- {line}" for line in described)]
    write_atomic(folder / "speed.md", "\n\n".join(text) + "\n")


def _further_versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in ("torchdistill", "pillow"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0], epilog="Example: python benchmarks/speed.py --quick"
    )
    add = parser.add_argument
    add("--pairs", nargs="+", default=PAIRS, metavar="TEACHER:STUDENT", help="pairs of models to time")
    add("--methods", nargs="+", type=int, default=[1, 6], metavar="N", help="sizes of cohorts, 1 to 6")
    add("--precision", nargs="+", choices=["auto", "fp32", "bf16"], default=["auto"], help="of kdbench only")
    add("--rounds", type=positive, help="turns of each loop (default 5, quick 3)")
    add("--steps", type=positive, help="timed steps of a turn (default 10, quick 1; more on a GPU)")
    add("--batch-size", type=positive, default=64, help="images of a step (default %(default)s)")
    add("--threads", type=positive, default=torch.get_num_threads(), help="CPU threads of torch")
    add("--workers", type=int, help="DataLoader workers of the others (default 2, or the cores if fewer)")
    add("--device", choices=["auto", "cpu", "cuda"], default="auto", help="where to train")
    add("--quick", action="store_true", help="fewer rounds and steps: under five minutes on two cores")
    add("--json", action="store_true", help="print a list of objects instead of a table")
    add("--out", type=Path, metavar="DIR", help="also write speed.json and speed.md there")
    given = parser.parse_args(arguments)
    if not all(1 <= count <= len(METHODS) for count in given.methods):
        parser.error(f"--methods: each is 1 to {len(METHODS)}, the first of {', '.join(METHODS)}")
    if given.batch_size < 2:
        parser.error("--batch-size: batch-norm needs at least 2 images")
    if given.workers is not None and given.workers < 0:
        parser.error("--workers: 0 or more")
    return given


def positive(text: str) -> int:
    """Read an integer above zero."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def run(given: argparse.Namespace, progress: Progress) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Time every pair; return the rows of the table and the settings."""
    device = resolve_device(given.device)
    torch.set_num_threads(given.threads)
    rounds, steps = (QUICK if given.quick else FULL)[device.type]
    rounds, steps = given.rounds or rounds, given.steps or steps
    cores = machine.fingerprint()["cores_usable"] or 1
    workers = min(2, cores) if given.workers is None else given.workers
    precisions = list(dict.fromkeys(resolve(precision, device) for precision in given.precision))
    counts = list(dict.fromkeys(given.methods))
    load = machine.load_average()
    if load > cores / 2:
        progress.warn(f"the load average is {load} on {cores} cores: other work disturbs the figures")
    # One step more than is timed: the first of a turn is not.
    tasks = [zoo_task(pair, steps + 1, given.batch_size, device) for pair in given.pairs]
    for task in tasks:
        for method in METHODS[: max(counts)]:
            task.distiller(method)
    progress.begin("matrix-multiply peak and the engine's overhead", len(precisions), "precision")
    peaks = {precision: matrix_peak(precision, device) for precision in precisions}
    overheads = {precision: engine_overhead(precision, given.batch_size, device) for precision in precisions}
    progress.end()
    rows = []
    for task in tasks:
        timed = time_pair(task, counts, precisions, rounds, workers, progress)
        rows += [
            row(task, count, precision, timed, peaks[precision], overheads[precision])
            for count in counts
            for precision in precisions
        ]
    settings = {
        "images": f"random, {' × '.join(str(size) for size in SHAPE)}",
        "device": device.type,
        "batch_size": given.batch_size,
        "rounds": rounds,
        "steps": steps,
        "threads": given.threads,
        "workers": workers,
        "load_average_before": load,
        "load_average_after": machine.load_average(),
    }
    return rows, settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; a UserError is one line on standard error and exit status 2."""
    given = options(arguments)
    console = Console(stderr=True)
    try:
        with machine.measuring_lock(Protocol.lock_timeout_s), ConsoleProgress(console) as progress:
            rows, settings = run(given, progress)
        if given.out:
            write(given.out, rows, settings)
    except UserError as error:
        console.print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
        return 2
    text = json.dumps(rows, indent=1, ensure_ascii=False) if given.json else f"{table(rows)}\n\n{LEGEND}"
    sys.stdout.write(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
