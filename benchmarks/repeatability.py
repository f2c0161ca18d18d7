"""How well measurements repeat: the same models ten times, each time in a fresh process.

    python benchmarks/repeatability.py                 table and JSON into results/repeatability
    python benchmarks/repeatability.py --quick --json  under five minutes on two cores, printed only

Shown are how far medians and speed-ups of the runs lie from their median; an A/A speed-up, that of a model
against a copy of itself, which should be 1; and how the median latency agrees with ``torch.utils.benchmark``,
an independent timer, in the same process. Exit status 1 where a speed-up moved by more than 5 %, an A/A
speed-up was more than 3 % off, or the timers differ by more than 5 %, on a machine that was quiet.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch
from torch.utils.benchmark import Timer

from kdbench.efficiency import ModelJob, Protocol, columns, measure
from kdbench.efficiency.columns import timing_names
from kdbench.efficiency.jobs import build, example
from kdbench.efficiency.latency import cpu_timer, time_calls
from kdbench.efficiency.repeats import Repeats, spread
from kdbench.efficiency.runtimes import prepare
from kdbench.errors import UserError
from kdbench.inputs import InputSpec
from kdbench.machine import fingerprint, measuring_lock, versions
from kdbench.place import Place
from kdbench.progress import Progress
from kdbench.store import write_atomic, write_json

REFERENCE, COPY = "resnet20", "resnet20 again"
MODELS = {name: name for name in (REFERENCE, "resnet8", "wrn_16_1", "cnn_8", "mlp_128")} | {COPY: REFERENCE}
INPUTS, CLASSES = InputSpec.image((3, 32, 32)), 100
MOST_SPREAD, MOST_AA, MOST_APART = 0.05, 0.03, 0.05
QUICK = Protocol(batch_sizes=(1,), devices=("cpu",), min_seconds=1.0, max_seconds=3.0, rounds=22)
# One turn of our timer beside another: short, so that both see the machine at the same pace.
TURN = Protocol(min_samples=22, min_seconds=0.1, max_seconds=0.3, warmup_calls=2, warmup_seconds=0.0)
TURNS = 21
FULL = Protocol(batch_sizes=(1, 32), devices=("cpu",), min_seconds=2.0, rounds=22)


@dataclass(frozen=True)
class Repeated:
    """One model at one batch size; latencies in ms, everything that is a spread as a share.

    ``aa_speedup`` and ``aa_spread`` are those of the copy, the same in each row: the median over the runs,
    and how far the run farthest from 1 is from it. ``agreement`` is our median over that of the other timer.
    """

    model: str
    batch: int
    runs: int
    p50_ms: float
    p50_spread: float
    speedup: float
    speedup_spread: float
    aa_speedup: float
    aa_spread: float
    agreement: float | None
    noisy: bool

    @property
    def faults(self) -> list[str]:
        """What is beyond its limit, whether the machine was quiet or not."""
        apart = 0.0 if self.agreement is None else abs(self.agreement - 1)
        limits = {
            "speed-up": (self.speedup_spread, MOST_SPREAD),
            "A/A": (self.aa_spread, MOST_AA),
            "timers": (apart, MOST_APART),
        }
        return [f"{name} {value:.1%}" for name, (value, most) in limits.items() if value > most]


class OnStandardError(Progress):
    """Tells what keeps the script waiting or makes its figures doubtful."""

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    warn = note


def repeat(protocol: Protocol, runs: int) -> Repeats:
    """Measure the models so many times, each time in a fresh process."""
    jobs = [ModelJob(label, name) for label, name in MODELS.items()]
    reports = []
    for run in range(runs):
        reports.append(
            measure(
                jobs,
                inputs=INPUTS,
                num_classes=CLASSES,
                reference=REFERENCE,
                protocol=protocol,
                progress=OnStandardError(),
            )
        )
        print(f"run {run + 1} of {runs}", file=sys.stderr, flush=True)
    return Repeats(tuple(reports))


def agreement(name: str) -> float:
    """Return our median latency at batch 1 over that of ``torch.utils.benchmark``.

    The timers take many short turns, who begins changes, and the median of the ratios is returned, so that
    a machine that changes its pace does not look like a timer that is wrong.
    """
    job = {"inputs": INPUTS.as_json(), "num_classes": CLASSES}
    built = build(job, {"name": name, "args": {}, "checkpoint": None})
    call = prepare(built.model, example(job, 1, "cpu"), Place("cpu", 1))
    theirs = Timer("call()", globals={"call": call}, num_threads=torch.get_num_threads())

    def our_median() -> float:
        timing = time_calls({name: lambda: call}, timer=cpu_timer, protocol=TURN)
        return median(ms for turn in timing.turns for ms in turn.ms)

    def their_median() -> float:
        return 1000 * theirs.blocked_autorange(min_run_time=TURN.min_seconds).median

    ratios = []
    with torch.inference_mode():
        for turn in range(TURNS):
            found = {
                timer: timer() for timer in ((our_median, their_median), (their_median, our_median))[turn % 2]
            }
            ratios.append(found[our_median] / found[their_median])
    return median(ratios)


def rows_of(repeats: Repeats, batches: tuple[int, ...], agreed: dict[str, float]) -> Iterator[Repeated]:
    """Yield a row for each model and batch size."""
    known = {column.name: column for column in columns(batches)}
    for batch in batches:
        names = timing_names(Place("cpu", batch))
        aa = repeats.values(COPY, names["speedup"])
        for label in MODELS:
            speedups = repeats.values(label, names["speedup"])
            latencies = repeats.values(label, names["p50"])
            latency = repeats.median(label, known[names["p50"]])
            speedup = repeats.median(label, known[names["speedup"]])
            if latency is None or speedup is None or not aa:
                raise UserError(
                    f"{label}, batch {batch}: the machine was too noisy in every run. Run it again."
                )
            yield Repeated(
                model=label,
                batch=batch,
                runs=len(latencies),
                p50_ms=latency,
                p50_spread=spread(latencies) or 0.0,
                speedup=speedup,
                speedup_spread=spread(speedups) or 0.0,
                aa_speedup=median(aa),
                aa_spread=max(abs(value - 1) for value in aa),
                agreement=agreed.get(label) if batch == 1 else None,
                noisy=f"cpu_b{batch}" in repeats.noise,
            )


def table(rows: list[Repeated], noise: list[dict[str, str]]) -> Iterator[str]:
    """Yield the lines of the table, and what to know of it."""
    machine, installed = fingerprint(), versions()
    yield "# How well measurements repeat\n"
    yield (
        f"Each model measured {rows[0].runs} times in fresh processes on {machine['cpu']} "
        f"({machine['cores_usable']} cores), torch {installed['torch']}, kdbench {installed['kdbench']}. "
        "± is the distance of the farthest run from the median; speed-ups are over "
        f"{REFERENCE}, and *{COPY}* is a copy of it: its speed-up should be 1. *agreement* is our median "
        "latency over that of `torch.utils.benchmark`. Made by `python benchmarks/repeatability.py`.\n"
    )
    yield "| model | batch | p50 (ms) | ± | speed-up | ± | agreement | beyond the limits |"
    yield "|:--|--:|--:|--:|--:|--:|--:|:--|"
    for row in rows:
        agreed = "–" if row.agreement is None else f"{row.agreement:.3f}"
        yield (
            f"| {row.model} | {row.batch} | {row.p50_ms:.4g} | {row.p50_spread:.1%} | {row.speedup:.3f} | "
            f"{row.speedup_spread:.1%} | {agreed} | {', '.join(row.faults) or 'none'} |"
        )
    yield ""
    if not any(noise):
        yield "The machine was quiet in every run."
        return
    yield "Where the machine was not quiet, run by run:\n"
    for run, found in enumerate(noise, start=1):
        if found:
            yield f"- {run}: {'; '.join(f'{name}: {text}' for name, text in found.items())}"


def main() -> int:
    """Measure as the command line says, and write or print what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="Batch 1 only, a second for each model.")
    parser.add_argument("--runs", type=int, default=10, help="How many fresh processes; default 10.")
    parser.add_argument("--out", type=Path, default=Path("results/repeatability"), help="Folder to write to.")
    parser.add_argument("--json", action="store_true", help="Print a list of objects and write nothing.")
    arguments = parser.parse_args()
    protocol = QUICK if arguments.quick else FULL
    repeats = repeat(protocol, arguments.runs)
    with measuring_lock(protocol.lock_timeout_s):
        agreed = {name: agreement(name) for name in MODELS if name != COPY}
    rows = list(rows_of(repeats, protocol.batch_sizes, agreed))
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        noise = [report.noise for report in repeats.reports]
        content = {
            "machine": fingerprint(),
            "versions": versions(),
            "protocol": protocol.as_json(),
            "noise": noise,
            "rows": [asdict(row) for row in rows],
        }
        write_json(arguments.out / "repeatability.json", content)
        write_atomic(arguments.out / "repeatability.md", "\n".join(table(rows, noise)) + "\n")
    return int(any(row.faults and not row.noisy for row in rows))


if __name__ == "__main__":
    sys.exit(main())
