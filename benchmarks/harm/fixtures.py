"""Runs that are damaged: one that is finished, one in the midst of its training, one with a teacher store."""

from __future__ import annotations

import csv
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harm.commands import Place, Started, forked
from harm.finished import Results, read
from harm.kills import SUITE

# Smaller than what is killed: one student of each of two methods.
SMALLER: tuple[str, ...] = (
    *("students=[mlp_8]", "seeds=[0]", "controls={}", "robustness=null"),
    "methods=[scratch, {chain: [kd, prune_magnitude], label: pruned}]",
)
RUN, STORE = "run", "store"
# In each fixture, the folder where its commands work.
WORK = "work"
LONG = 40


@dataclass(frozen=True)
class Fixture:
    """A folder with a run in it, the command that goes on with it, and what it comes to undisturbed."""

    name: str
    work: Path
    command: tuple[str, ...]
    expected: Results
    table: dict[str, dict[str, str]]

    def copy(self, folder: Path) -> Path:
        """Return a copy of the folder, below another one."""
        shutil.copytree(self.work, folder / WORK, symlinks=True)
        return folder / WORK


@dataclass(frozen=True)
class Fixtures:
    """The three."""

    finished: Fixture
    begun: Fixture
    stored: Fixture

    @classmethod
    def make(cls, folder: Path) -> Fixtures:
        """Make those that are not there yet."""
        return cls(_finished(folder / "finished"), _begun(folder / "begun"), _stored(folder / "stored"))

    def __iter__(self) -> Iterator[Fixture]:
        yield from (self.finished, self.begun, self.stored)


def command(*overrides: str, options: tuple[str, ...] = ()) -> tuple[str, ...]:
    chosen = [word for override in (*SMALLER, *overrides) for word in ("--set", override)]
    return ("run", str(SUITE), "--out", RUN, "--device", "cpu", *chosen, *options)


def rows(run: Path) -> dict[str, dict[str, str]]:
    """Return the table of a run by id."""
    with (run / "results.csv").open(newline="") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def _finished(folder: Path) -> Fixture:
    words = command()
    if not (folder / "done").is_file():
        _go(folder, words)
    run = folder / WORK / RUN
    return Fixture("finished", folder / WORK, words, Results.of(run), rows(run))


def _begun(folder: Path) -> Fixture:
    """Kill a run in its training; what it comes to is that of a copy which goes on."""
    words = command(f"recipe.epochs={LONG}", "measure.latency=false")
    if not (folder / "done").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        place = Place(folder / WORK)
        process = Started(words, place)
        written: set[int] = set()
        while len(written) < 3:
            written |= {file.stat().st_mtime_ns for file in folder.glob(f"{WORK}/{RUN}/cohorts/*.pt")}
            if process.process.poll() is not None:
                raise SystemExit(f"the run ended before it was killed: {process.wait(1).last_lines()}")
            time.sleep(0.001)
        process.kill()
        place.end_processes()
        for file in process.files:
            file.unlink()
        shutil.copytree(folder / WORK, folder / "undisturbed")
        _go(folder, words, folder / "undisturbed")
    run = folder / "undisturbed" / RUN
    return Fixture("begun", folder / WORK, words, Results.of(run), rows(run))


def _stored(folder: Path) -> Fixture:
    words = command("measure.latency=false", options=("--teacher-store", STORE))
    if not (folder / "done").is_file():
        _go(folder, words, folder / "undisturbed")
        (folder / WORK).mkdir()
        shutil.copytree(folder / "undisturbed" / STORE, folder / WORK / STORE)
    run = folder / "undisturbed" / RUN
    return Fixture("stored", folder / WORK, words, Results.of(run), rows(run))


def _go(folder: Path, words: tuple[str, ...], work: Path | None = None) -> None:
    """Run a command to its end, from nothing unless ``work`` is there."""
    if work is None or not work.exists():
        shutil.rmtree(folder, ignore_errors=True)
    ended = forked(words, Place(work or folder / WORK), limit_s=300)
    if ended.status or ended.over:
        raise SystemExit(f"a run that nobody disturbs fails: {ended.over or ended.last_lines()}")
    (folder / "done").touch()


# The files of each kind of node that are damaged: every name once, and more of what others are built on.
OF_NODES = {
    "student": (
        *("record.json", "history.csv", "outcomes.parquet", "predictions.safetensors", "folder"),
        *("weights.safetensors", "weights_best.safetensors"),
    ),
    "compressed": ("record.json", "decision.json", "weights.safetensors"),
    "link": ("record.json", "weights.safetensors"),
    "teacher": ("record.json", "weights.safetensors", "predictions.safetensors", "folder"),
}
OF_STORE = {"teacher": (*OF_NODES["teacher"], "outcomes.parquet")}


def places(fixture: Fixture) -> dict[str, Path]:
    """Return what may be damaged in a fixture: the path, by what it is."""
    stored = fixture.name == "stored"
    base = fixture.work / (STORE if stored else RUN)
    if fixture.name == "begun":
        (checkpoint,) = base.glob("cohorts/*.pt")
        return {"cohort.pt": checkpoint.relative_to(fixture.work)}
    found: dict[str, Path] = {}
    for record in sorted(base.glob("nodes/*/record.json")):
        content = read(record)
        assert content is not None
        kind = "compressed" if record.with_name("decision.json").is_file() else str(content["role"])
        for name in (OF_STORE if stored else OF_NODES)[kind]:
            found[f"{kind}.{name}"] = record.parent if name == "folder" else record.with_name(name)
    if not stored:
        (costs,) = base.glob("costs/*")
        found |= {file.name: file for file in (*costs.iterdir(), *base.iterdir()) if file.is_file()}
        found |= {f"{name}.folder": base / name for name in ("nodes", "report", "cohorts")}
        found |= {f"report.{name}": base / "report" / name for name in ("index.html", "results.csv")}
        found["report.figures.folder"] = base / "report" / "figures"
        found["costs.folder"] = costs
    return {name: path.relative_to(fixture.work) for name, path in sorted(found.items())}
