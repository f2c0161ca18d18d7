"""What a run directory holds: the cells that are finished, and the results, read without kdbench's own code.

Only the columns' families are asked of kdbench, so that what a cost is needs no list here.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from kdbench.store import RunDirectory

# Of a node these are bit-equal whenever its training is; history.csv holds times.
MADE = ("weights.safetensors", "weights_best.safetensors", "predictions.safetensors", "outcomes.parquet")
# What stays in the folder for temporary files: the machine's measuring lock, and a folder of torch's own.
KEPT = ("kdbench-measuring.lock", "torchinductor_")
LABELS = ("id", "role", "status", "teacher", "student", "method", "seed", "cohort")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass(frozen=True)
class Finish:
    """One finished node: how and when it was made, and when its files were written, by name."""

    status: str
    started: str | None
    finished: str | None
    written: dict[str, tuple[int, str]]


# By place; None for what cannot be read.
Finishes = dict[str, Finish | None]


def finished(run: Path) -> Finishes:
    """Return what is finished in a run or a teacher store, by its place; None where it cannot be read."""
    places: Finishes = {}
    for record in sorted(run.glob("nodes/*/record.json")):
        folder = record.parent
        content = read(record)
        written = {
            name: (file.stat().st_mtime_ns, sha256(file))
            for name in MADE
            if (file := folder / name).is_file()
        }
        place = str(folder.relative_to(run))
        times = content.get("provenance") if content else None
        if content is None or not isinstance(times, dict):
            places[place] = None
        else:
            places[place] = Finish(content["status"], times.get("started"), times.get("finished"), written)
    for cost in sorted(run.glob("costs/*/cost.json")):
        samples = cost.with_name("latency.parquet")
        written = {samples.name: (samples.stat().st_mtime_ns, sha256(samples))} if samples.is_file() else {}
        places[str(cost.parent.relative_to(run))] = Finish("ok", None, None, written) if read(cost) else None
    return places


def read(path: Path) -> dict[str, Any] | None:
    """Return the JSON object of a file, or None where there is none."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def harms(before: Finishes, now: Finishes, remade: Collection[str] = ()) -> Iterator[tuple[str, str]]:
    """Yield what became of finished cells and measurements: the kind of harm, and what was seen.

    ``remade`` are places that may be made again: files in one of them, or folders of some, count as well.
    """

    def counts(at: str) -> bool:
        place = PurePath(at)
        return not any(
            place.is_relative_to(other) or PurePath(other).is_relative_to(place) for other in remade
        )

    for at, end in now.items():
        if end is None and counts(at):
            yield "lost", f"{at}: its record is no JSON object"
    for at, end in before.items():
        if end is None or not counts(at):
            continue
        if at not in now:
            yield "lost", at
        elif (later := now[at]) is None:
            continue
        elif (end.started, end.finished) != (later.started, later.finished):
            yield "doubled", f"{at}: made at {later.started}, was at {end.started}"
        elif end != later:
            names = [name for name in end.written if end.written[name] != later.written.get(name)]
            kind = "doubled" if end.status == later.status else "lost"
            yield kind, f"{at}: {later.status}; written again: {', '.join(names)}"


@dataclass(frozen=True)
class Results:
    """What a run came to: the cells of the table that are no cost, by id, and checksums of what was made."""

    rows: dict[str, dict[str, str]]
    files: dict[str, str]

    @classmethod
    def of(cls, run: Path) -> Results:
        """Read a run directory."""
        families = {name: column.family for name, column in RunDirectory(run).columns().items()}
        with (run / "results.csv").open(newline="") as file:
            rows = {row["id"]: row for row in csv.DictReader(file)}
        kept = {
            id: {
                name: text
                for name, text in row.items()
                if name in LABELS or name == "best_epoch" or families.get(name, "cost") != "cost"
            }
            for id, row in rows.items()
        }
        return cls(kept, dict(made(run)))

    def differences(self, other: Results) -> list[str]:
        """Return what differs in another run, in words."""
        lines = [f"{id}: no such row" for id in self.rows.keys() - other.rows.keys()]
        lines += [f"{id}: a row more" for id in other.rows.keys() - self.rows.keys()]
        for id in self.rows.keys() & other.rows.keys():
            mine, theirs = self.rows[id], other.rows[id]
            lines += [
                f"{id}: {name} is {theirs.get(name)!r}, was {mine.get(name)!r}"
                for name in sorted(mine.keys() | theirs.keys())
                if mine.get(name) != theirs.get(name)
            ]
        return lines + file_differences(self.files, other.files)


def file_differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Return the files of the first that are others in the second, or not there."""
    changed = [name for name in before if before[name] != after.get(name)]
    return [f"{name}: {'missing' if name not in after else 'other content'}" for name in sorted(changed)]


def made(run: Path) -> Iterator[tuple[str, str]]:
    """Yield the files that decide results, with their checksums."""
    for name in (*MADE, "decision.json"):
        for path in sorted(run.glob(f"nodes/*/{name}")):
            if path.is_file():
                yield str(path.relative_to(run)), sha256(path)


def tables(run: Path) -> dict[str, str]:
    """Return the report's tables of figures that time does not change, by name, as text."""
    return {path.name: path.read_text() for path in sorted(run.glob("report/differences*.csv"))}


def left_behind(*folders: Path) -> list[str]:
    """Return files that only a run in progress needs; a folder for temporary files must be empty."""
    left = []
    for folder in folders:
        for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
            partial = path.name.startswith(".") and path.name.endswith(".partial")
            scratch = ".scratch" in path.parts
            checkpoint = path.parent.name == "cohorts"
            temporary = folder.name == "tmp" and not path.name.startswith(KEPT)
            if partial or scratch or checkpoint or temporary:
                left.append(str(path.relative_to(folder)))
    return left
