"""What kdbench withstands: kills, damaged files, hostile run directories, bad inputs.

    python benchmarks/faults.py                        the full table into results/faults
    python benchmarks/faults.py --quick                under five minutes on two cores, printed only
    python benchmarks/faults.py --only damage          one of kills, damage, inputs
    python benchmarks/faults.py --case damage/...      the cases whose names begin so, again

A small suite is killed at random moments, its workers too, and goes on; every kind of file of a finished and
of an interrupted run is damaged in every way; bad suites, command lines, checkpoints, data and code are
tried. Printed is how often what went wrong. Exit status 1 if anything did.

What was done at a commit is kept in the folder of --work, with the files of what went wrong, so that the same
command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import islice
from pathlib import Path
from typing import Any

from harm import damage, inputs, kills
from harm.commands import ROOT
from harm.fixtures import Fixtures
from harm.outcome import KINDS, Outcome
from harm.table import as_json, as_markdown, summary_lines, write_csv

from kdbench import machine

PARTS = ("kills", "damage", "inputs")
FULL_KILLS, QUICK_KILLS = 100, 12
# So that a quick table has all ways of killing.
QUICK_KILLS_A_ROUND = 2
# More than any number of kills takes that somebody would wait for.
MOST_ROUNDS = 1000
# Of so many cases one is tried.
QUICK_SHARE = {"damage": 20, "inputs": 15}
# In forks of this process they need not be loaded again.
LOADED = (
    *("torch", "torchvision", "kdbench.cli", "kdbench.runner", "kdbench.report", "kdbench.runner.evaluate"),
    *(
        "kdbench.exporting",
        "kdbench.efficiency",
        "matplotlib.backends.backend_svg",
        "plotly.graph_objects",
        "sklearn.datasets",
    ),
    *("scipy.stats", "pandas", "statsmodels.stats.multitest"),
)


def prepare() -> None:
    """Load what every command needs, and let figures be drawn once and coarsely: forks then do so too."""
    for name in LOADED:
        __import__(name)
    import kdbench

    if not Path(kdbench.__file__).is_relative_to(ROOT):
        raise SystemExit(f"kdbench is imported from {kdbench.__file__}: put {ROOT} first, with PYTHONPATH")
    from kdbench.report import gallery

    gallery.DPI = 40
    del gallery.FORMATS["pdf"]


class Journal:
    """What was done already, one line of JSON a case; the same seed goes on from it."""

    def __init__(self, path: Path) -> None:
        """Read what is there."""
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text().splitlines() if path.is_file() else []
        self.done = {outcome.name: outcome for outcome in map(Outcome.of, map(json.loads, lines))}

    def add(self, outcome: Outcome) -> None:
        self.done[outcome.name] = outcome
        with self._path.open("a") as file:
            file.write(json.dumps(outcome.as_json()) + "\n")


class Harness:
    """Carries cases out in a few processes and shows how far it is."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Take the command line."""
        self.options = options
        self.work: Path = options.work.absolute() / f"seed-{options.seed}"
        # What another commit did says nothing of this one.
        commit = machine.git_commit() or machine.versions()["kdbench"]
        self.journal = Journal(self.work / f"done-{commit[:12]}.jsonl")
        self._began = time.monotonic()

    def kills(self) -> list[Outcome]:
        reference = kills.Reference.make(self.work / "reference")
        options = self.options
        most = {"most": QUICK_KILLS_A_ROUND} if options.quick else {}
        rounds = list(islice(kills.rounds(options.seed, **most), MOST_ROUNDS))
        if options.case:
            rounds = [kills.Round.of(options.case, options.seed)]
        wanted: int = options.kills or (QUICK_KILLS if options.quick else FULL_KILLS)

        def enough(outcomes: list[Outcome]) -> bool:
            return sum(outcome.tried for outcome in outcomes) >= wanted

        return self._carry_out(rounds, lambda round, folder: round.carry_out(reference, folder), enough)

    def damage(self) -> list[Outcome]:
        fixtures = self._fixtures()
        cases = self._chosen("damage", damage.cases(fixtures, self.options.seed))
        return self._carry_out(cases, lambda case, folder: case.carry_out(fixtures, folder))

    def inputs(self) -> list[Outcome]:
        fixtures = self._fixtures()
        cases = self._chosen("inputs", inputs.cases())
        return self._carry_out(cases, lambda case, folder: case.carry_out(fixtures, folder))

    def _fixtures(self) -> Fixtures:
        return Fixtures.make(self.work / "fixtures")

    def _chosen(self, part: str, cases: list[Any]) -> list[Any]:
        """Return the cases that are asked for; of a quick table some of each group, by the seed."""
        if self.options.case:
            return [case for case in cases if case.name.startswith(self.options.case)]
        if not self.options.quick:
            return cases
        cases = sorted(
            cases, key=lambda case: hashlib.sha256(f"{self.options.seed}{case.name}".encode()).digest()
        )
        cases.sort(key=lambda case: case.name.split("/")[1])
        return cases[:: QUICK_SHARE[part]]

    def _carry_out(
        self,
        cases: Sequence[Any],
        carry_out: Callable[[Any, Path], Outcome],
        enough: Callable[[list[Outcome]], bool] = lambda outcomes: False,
    ) -> list[Outcome]:
        """Return the outcomes of cases, in so many processes at once, until there are no more or enough."""
        outcomes: list[Outcome] = []
        running: set[Future[Outcome]] = set()
        global _CASES, _CARRY_OUT
        _CASES, _CARRY_OUT = cases, carry_out
        waiting = iter(range(len(cases)))
        again = bool(self.options.case)
        with ProcessPoolExecutor(self.options.jobs, multiprocessing.get_context("fork")) as pool:
            while True:
                while len(running) < self.options.jobs and not enough(outcomes):
                    if (number := next(waiting, None)) is None:
                        break
                    case = cases[number]
                    if case.name in self.journal.done and not again:
                        outcomes.append(self.journal.done[case.name])
                    else:
                        running.add(pool.submit(_carried_out, number, self.work / "cases" / case.name))
                if not running:
                    return outcomes
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    outcomes.append(future.result())
                    self.journal.add(outcomes[-1])
                    self._show(outcomes[-1])

    def _show(self, outcome: Outcome) -> None:
        faults = ", ".join(f"{fault.kind}: {fault.text}" for fault in outcome.faults[:2]) or "ok"
        minutes = (time.monotonic() - self._began) / 60
        print(
            f"{minutes:5.1f} min  {outcome.name} ({outcome.seconds:.1f} s): {faults[:220]}",
            file=sys.stderr,
            flush=True,
        )


# Set before the processes are forked, which so need not be sent them.
_CASES: Sequence[Any]
_CARRY_OUT: Callable[[Any, Path], Outcome]


def _carried_out(number: int, folder: Path) -> Outcome:
    began = time.monotonic()
    outcome = _CARRY_OUT(_CASES[number], folder)
    outcome.seconds = time.monotonic() - began
    return outcome


def main() -> int:
    """Try what the command line asks for; print the table or write it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="some kills, every so manieth case of the rest")
    parser.add_argument("--only", choices=PARTS, help="one part of the table")
    parser.add_argument(
        "--case", help="the cases whose names begin so, done again even if they were done before"
    )
    parser.add_argument("--kills", type=int, help=f"how many at least; default {FULL_KILLS}")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of kills and the places of flips")
    parser.add_argument("--jobs", type=int, default=2, help="cases at once; default 2")
    parser.add_argument("--work", type=Path, default=Path("runs/faults"), help="folder for the cases' files")
    parser.add_argument(
        "--out", type=Path, help="folder for faults.csv and faults.md; default results/faults"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args()
    prepare()
    harness = Harness(options)
    part = options.case.partition("/")[0] if options.case else options.only
    outcomes: dict[str, list[Outcome]] = {}
    for name in PARTS:
        if part in (None, name):
            outcomes[name] = getattr(harness, name)()
    print(
        json.dumps(as_json(outcomes, options.seed), indent=1)
        if options.json
        else "\n".join(summary_lines(outcomes))
    )
    if options.out or not (options.quick or options.case or options.only):
        out = options.out or Path("results/faults")
        out.mkdir(parents=True, exist_ok=True)
        with (out / "faults.csv").open("w", newline="") as file:
            write_csv(file, outcomes)
        (out / "faults.md").write_text(as_markdown(outcomes, options.seed))
    every = [outcome for part in outcomes.values() for outcome in part]
    return int(any(outcome.count(kind) for outcome in every for kind in KINDS))


if __name__ == "__main__":
    sys.exit(main())
