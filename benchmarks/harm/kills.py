"""Kills: a run, a worker of it or a report is killed at random, then the same command goes to its end."""

from __future__ import annotations

import fnmatch
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from harm.commands import Ended, Place, Started, started
from harm.finished import Finishes, Results, finished, harms, left_behind, tables
from harm.outcome import Outcome, judge_end

SUITE = Path(__file__).with_name("small.yaml")
LIMIT_S = 240.0
# So long what kdbench has started may live on after it.
GRACE_S = 3.0
# A fork and imports: nothing happens in a run before.
SILENT_S = 1.5
LOOK_S = 0.002
# What a kill waits for, beside kills at any time: every phase, also those that are over in a moment.
MOMENTS = (
    *("suite.yaml", "columns.json", "run.json", ".*.partial", "nodes/*", "nodes/*/.*.partial"),
    *("nodes/*/history.csv", "nodes/*/weights.safetensors", "nodes/*/decision.json", "nodes/*/record.json"),
    *("cohorts/*", "cohorts/*.pt", "costs/*", "costs/*/latency.parquet", "costs/*/cost.json", "results.csv"),
    *("report", "report/*", "report/figures/*", "report/index.html", "store/nodes/*", "store/nodes/*/*"),
)


# Of ``run`` the command itself is killed, of ``inner`` the process that it watches and that does its work.
WAYS = ("run", "jobs", "inner", "measuring", "store", "run", "training", "report")


@dataclass(frozen=True)
class Reference:
    """The run that nobody disturbed: where it lies, how long it took, and what it came to."""

    run: Path
    seconds: float
    results: Results

    @classmethod
    def make(cls, folder: Path) -> Reference:
        """Run the suite once, unless that was done before."""
        place, run = Place(folder), folder / "run"
        times = folder / "seconds"
        if not times.is_file():
            shutil.rmtree(folder, ignore_errors=True)
            ended = started(command(run), place, limit_s=LIMIT_S)
            if ended.status or ended.over:
                raise SystemExit(f"the undisturbed run fails: {ended.over or ended.last_lines()}")
            times.write_text(str(ended.seconds))
        return cls(run, float(times.read_text()), Results.of(run))


def command(run: Path, *options: str) -> list[str]:
    return ["run", str(SUITE), "--out", str(run), "--device", "cpu", "--quiet", *options]


@dataclass(frozen=True)
class Round:
    """One folder that is killed so many times before it is let go to its end."""

    number: int
    seed: int
    way: str
    kills: int

    @property
    def name(self) -> str:
        return f"kills/{self.number:03}-{self.way}-{self.kills}"

    @classmethod
    def of(cls, name: str, seed: int) -> Round:
        """Return the round of a name."""
        number, way, kills = name.removeprefix("kills/").split("-")
        return cls(int(number), seed, way, int(kills))

    def carry_out(self, reference: Reference, folder: Path) -> Outcome:
        """Kill, resume, and count what was harmed; ``tried`` are the kills that met a living process."""
        return _Killing(self, reference, folder).carry_out()


def rounds(seed: int, most: int = 6) -> Iterator[Round]:
    """Yield rounds of at most so many kills, without end, all ways in turn."""
    chance = random.Random(seed)
    number = 0
    while True:
        for way in WAYS:
            yield Round(number, seed, way, chance.randint(2, most))
            number += 1


class _Killing:
    """One round being carried out."""

    def __init__(self, round: Round, reference: Reference, folder: Path) -> None:
        self.round = round
        self.reference = reference
        self.place = Place(folder)
        self.run = folder / "run"
        self.store = self.run / "store" if round.way == "store" else self.run
        self.chance = random.Random(f"{round.seed}/{round.name}")
        self.outcome = Outcome("kills", round.name, f"{round.way}, killed {round.kills} times", tried=0)
        self.moments: list[str] = []
        options = {"jobs": ("--jobs", "2"), "training": ("--jobs", "2"), "store": ("--teacher-store",)}
        more = (*options.get(round.way, ()), *([str(self.store)] if round.way == "store" else []))
        self.command = ["report", str(self.run)] if round.way == "report" else command(self.run, *more)

    def carry_out(self) -> Outcome:
        began = time.monotonic()
        shutil.rmtree(self.place.folder, ignore_errors=True)
        if self.round.way == "report":
            shutil.copytree(self.reference.run, self.run)
        done = self._finished()
        for number in range(self.round.kills):
            if not self._kill(number) and self.round.way != "report":
                break
            done = self._compare(done)
        ended = started(self.command, self.place, limit_s=LIMIT_S)
        self._judge(ended, "the run to its end", statuses=(0,))
        self._compare(done)
        if not ended.status and not ended.over:
            self._compare_with_reference()
        self._look_for_orphans("the end of the run")
        for name in left_behind(self.run, self.place.temporary):
            self.outcome.add("left behind", f"{name} {self._after()}")
        self.outcome.about = f"{self.round.way}, killed: {'; '.join(self.moments) or 'never'}"
        self.outcome.seconds = time.monotonic() - began
        if not self.outcome.faults:
            shutil.rmtree(self.place.folder)
        return self.outcome

    def _finished(self) -> Finishes:
        folders = {self.run, self.store}
        return {f"{folder.name}/{at}": end for folder in folders for at, end in finished(folder).items()}

    def _kill(self, number: int) -> bool:
        """Start the command and kill it, or a worker of it; return whether it is not at its end yet."""
        process = Started(self.command, self.place)
        moment, met = self._await_moment(process)
        if not met:
            ended = process.wait(LIMIT_S)
            self._judge(ended, f"start {number + 1}, that {moment} did not meet", statuses=(0,))
            return False
        self.outcome.tried += 1
        self.moments.append(moment)
        if self.round.way in ("measuring", "training"):
            # kdbench itself was let live: it must see what became of its worker.
            ended = process.wait(LIMIT_S)
            self._judge(ended, f"{self.round.way} worker killed {moment}", statuses=(0, 1, 2))
            return True
        if self.round.way == "inner":
            for child in _children(process)[:1]:
                child.kill()
            # It may have been at its end already.
            self._judge(process.wait(LIMIT_S), f"its own process killed {moment}", statuses=(0, 2))
            self._look_for_orphans(moment)
            return True
        process.kill()
        self._look_for_orphans(moment)
        return True

    def _await_moment(self, process: Started) -> tuple[str, bool]:
        """Wait for a random moment of a process; return what it is, and whether it came."""
        chance = self.chance
        if self.round.way in ("measuring", "training"):
            return _kill_worker(process, self.round.way, chance.uniform(0, chance.choice((0.1, 1.0, 3.0))))
        if chance.random() < 0.4:
            longest = 7.0 if self.round.way == "report" else self.reference.seconds
            after = chance.uniform(SILENT_S, longest)
            return f"after {after:.2f} s", _lives_until(process, lambda: process.seconds > after)
        if self.round.way == "report":
            pattern, count = chance.choice(("results*", "report/*", "report/*")), chance.randint(1, 12)
        else:
            pattern, count = chance.choice(MOMENTS), chance.choice((1, 1, 2, 3, 5))
        delay = chance.choice((0.0, 0.0, chance.uniform(0, 0.02), chance.uniform(0, 0.5)))
        seen = _stamps(self.run)
        new = 0

        def is_met() -> bool:
            nonlocal seen, new
            now = _stamps(self.run)
            new += sum(fnmatch.fnmatch(at, pattern) for at in now if seen.get(at) != now[at])
            seen = now
            return new >= count

        met = _lives_until(process, is_met)
        if met and delay:
            time.sleep(delay)
        return f"{delay:.3f} s after {pattern} came {count} times", met and process.process.poll() is None

    def _judge(self, ended: Ended, what: str, statuses: tuple[int, ...]) -> None:
        if ended.status in (1, 2) and 0 in statuses and len(statuses) == 1 and not ended.over:
            self.outcome.add(
                "refused", f"{what}: exit status {ended.status}: {ended.last_lines()} {self._after()}"
            )
            statuses = (0, 1, 2)
        judge_end(self.outcome, ended, what, statuses)

    def _compare(self, before: Finishes) -> Finishes:
        """Count finished cells that are not what they were; return what is finished now."""
        now = self._finished()
        for kind, text in harms(before, now):
            self.outcome.add(kind, f"{text} {self._after()}")
        return now

    def _compare_with_reference(self) -> None:
        for line in self.reference.results.differences(Results.of(self.run))[:10]:
            self.outcome.add("different", f"{line} {self._after()}")
        if tables(self.run) != tables(self.reference.run):
            self.outcome.add("different", f"the report's table of differences {self._after()}")

    def _look_for_orphans(self, moment: str) -> None:
        limit = time.monotonic() + GRACE_S
        while (alive := self.place.processes()) and time.monotonic() < limit:
            time.sleep(0.1)
        for process in alive:
            try:
                words = " ".join(process.cmdline())
            except psutil.Error:
                continue
            self.outcome.add("orphans", f"lives {GRACE_S:g} s after {moment}: {words}")
        self.place.end_processes()

    def _after(self) -> str:
        return f"[killed {'; '.join(self.moments)}]"


def _lives_until(process: Started, is_met: Callable[[], bool]) -> bool:
    """Wait until something is met; return False where the process ended before."""
    while not is_met():
        if process.process.poll() is not None or process.seconds > LIMIT_S:
            return False
        time.sleep(LOOK_S)
    return process.process.poll() is None


def _kill_worker(process: Started, which: str, delay: float) -> tuple[str, bool]:
    """Kill a worker of a process, so long after it was first seen; return the moment and whether it came."""
    sign = {"measuring": "job.json", "training": "spawn_main"}[which]
    workers: list[psutil.Process] = []

    def is_met() -> bool:
        time.sleep(0.02)
        workers[:] = [worker for worker in _children(process) if sign in _words(worker)]
        return bool(workers)

    moment = f"{delay:.2f} s after it came"
    if not _lives_until(process, is_met):
        return moment, False
    time.sleep(delay)
    try:
        workers[-1].kill()
    except psutil.NoSuchProcess:
        return moment, False
    return moment, True


def _children(process: Started) -> list[psutil.Process]:
    try:
        return psutil.Process(process.process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _words(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _stamps(folder: Path, prefix: str = "") -> dict[str, int]:
    """Return when everything below a folder was last changed, by its path in it."""
    stamps = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                path = f"{prefix}{entry.name}"
                stamps[path] = 0 if entry.is_dir() else entry.stat(follow_symlinks=False).st_mtime_ns
                if entry.is_dir(follow_symlinks=False):
                    stamps |= _stamps(Path(entry.path), f"{path}/")
    except OSError:
        return stamps  # it was renamed or removed meanwhile
    return stamps
