"""The run directory: records written atomically, amended, read back, and checked by checksum.

Layout of a run directory::

    suite.yaml                       the suite as it was resolved
    run.json                         suite name, plan and its labels, machine, when it started
    columns.json                     what every column means: title, direction, unit, source
    teachers/ID/record.json          a teacher, an assistant or an independent teacher: the files of a cell
    cells/ID/record.json             written last: a cell without it is not finished
    cells/ID/predictions.safetensors logits and labels of the splits; of a further task in TASK.predictions...
    cells/ID/outcomes.parquet        label and predicted class of every test example: small enough to publish
    cells/ID/student.safetensors     weights of the last and of the best epoch
    cells/ID/history.csv             one line an epoch
    cells/ID/traceback.txt           of a failed cell: where in the code it failed
    costs/ID/cost.json               what the models of the run cost, and latency.parquet
    results.csv, results.parquet     every record as a row; rebuilt from the records at will
    results_earlier.csv              the records of earlier plans of the suite, where there are any
    report/                          tables, figures and the HTML page

This package never imports torch, so that a run can be read on any machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import filelock

from kdbench.column import Column
from kdbench.column_names import completed
from kdbench.errors import SharedFault, UserError
from kdbench.store.files import Fingerprints, read_json, sha256_of, write_json

SCHEMA = 1
OUTCOMES = "outcomes.parquet"
PREDICTIONS = "predictions.safetensors"
TRACEBACK = "traceback.txt"
EARLIER = "results_earlier.csv"
# The folder of runs that 'kdbench run' writes into, and whose teachers they share.
RUNS = Path("runs")
Kind = Literal["teachers", "cells"]


def kind_of(record: Mapping[str, Any]) -> Kind:
    """Return the folder that a record lies in; assistants are teachers."""
    return "cells" if record["role"] == "student" else "teachers"


def _rests_on(record: Mapping[str, Any]) -> list[str]:
    """Return the ids of the assistant and the independent teacher of a finished record, where it has any."""
    if record["status"] != "ok":
        return []
    # A cell's teacher is a row; an assistant's is another assistant, or the row at the end of the chain.
    taught_by = {"student": "tutor", "assistant": "teacher"}.get(record["role"], "")
    return [id for id in (record["config"].get(taught_by), record.get("independent_teacher")) if id]


def reason_of(record: Mapping[str, Any]) -> str:
    """Return why a record has no metrics, and where its traceback lies if there is one."""
    reason = record["reason"] or "no reason was recorded"
    if TRACEBACK not in record.get("files", {}):
        return reason
    return f"{reason} [{kind_of(record)}/{record['id']}/{TRACEBACK}]"


@dataclass(frozen=True)
class RunDirectory:
    """A suite's records and everything that is derived from them."""

    path: Path

    @classmethod
    def open(cls, path: str | Path) -> RunDirectory:
        """Open an existing run directory; raises UserError where there is none."""
        run = cls(Path(path))
        if not run.path.is_dir():
            raise UserError(f"no run directory at {path}. 'kdbench run SUITE --out {path}' makes one.")
        if not (run.path / "run.json").is_file():
            raise UserError(f"{path} is not a run directory: it holds no run.json.")
        return run

    def folder(self, kind: Kind, id: str) -> Path:
        """Return the folder of one cell or teacher."""
        return self.path / kind / id

    def record(self, kind: Kind, id: str) -> dict[str, Any] | None:
        """Return the record of a finished cell or teacher, or None where it is not finished."""
        path = self.folder(kind, id) / "record.json"
        return read_json(path) if path.is_file() else None

    def write_record(self, kind: Kind, record: Mapping[str, Any], files: Fingerprints) -> None:
        """Write a new record with the fingerprints of the files beside it; this is what finishes a cell.

        ``files`` are those that the caller has written (see `write_recorded`): what else lies there, or has
        become of them meanwhile, is not vouched for.
        """
        path = self.folder(kind, record["id"]) / "record.json"
        write_json(path, {"schema": SCHEMA, **record, "files": files})

    def amend(
        self, record: Mapping[str, Any], changes: Mapping[str, Any], files: Fingerprints | None = None
    ) -> None:
        """Write a finished record with some of its fields changed.

        The files beside it keep the fingerprints that they were recorded with, so that `check` still finds
        damage to them; ``files`` are those of files that the caller has written anew.
        """
        fingerprints = record["files"] | (files or {})
        path = self.folder(kind_of(record), record["id"]) / "record.json"
        write_json(path, {**record, **changes, "files": fingerprints})

    def recorded_file(self, record: Mapping[str, Any], name: str) -> Path:
        """Return the path of a file beside a record; raises SharedFault where it is not what was recorded."""
        folder = self.folder(kind_of(record), record["id"])
        problem = _problem(folder / name, record["files"].get(name, {}))
        if problem:
            raise SharedFault(f"{folder / name}: {problem}. Delete {folder} and run the suite again.")
        return folder / name

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield every record that is a row: the teachers first, then the cells in the order of the plan."""
        manifest = self.manifest()
        yield from self._existing("teachers", manifest["teachers"])
        yield from self._existing("cells", manifest["cells"])

    def supporting(self) -> Iterator[dict[str, Any]]:
        """Yield the records that rows rest on but that are none: independent teachers and assistants."""
        yield from self._existing("teachers", self.supporting_ids())

    def supporting_ids(self) -> list[str]:
        """Return the ids of what rows rest on, whether there is a record of it or not.

        The manifest of a run from before it named them does not: finished records lead to them too.
        """
        manifest = self.manifest()
        ids = dict.fromkeys(manifest.get("supporting", []))
        waiting = [*self.records(), *self._existing("teachers", ids)]
        while waiting:
            new = [id for id in _rests_on(waiting.pop()) if id not in ids and id not in manifest["teachers"]]
            ids |= dict.fromkeys(new)
            waiting += self._existing("teachers", new)
        return list(ids)

    def earlier(self) -> list[dict[str, Any]]:
        """Return the records of earlier plans of the suite that lie here too: teachers, then cells."""
        manifest = self.manifest()
        present = {*manifest["cells"]}
        found = sorted(path.parent.name for path in self.path.glob("cells/*/record.json"))
        cells = list(self._existing("cells", [id for id in found if id not in present]))
        cells.sort(key=lambda cell: (cell["teacher"], cell["student"], cell["method"], cell["seed"]))
        taught = dict.fromkeys(cell["config"].get("teacher") for cell in cells)
        teachers = [id for id in taught if id is not None and id not in manifest["teachers"]]
        return [*self._existing("teachers", teachers), *cells]

    def _existing(self, kind: Kind, ids: Iterable[str]) -> Iterator[dict[str, Any]]:
        for id in ids:
            record = self.record(kind, id)
            if record is not None:
                yield record

    def manifest(self) -> dict[str, Any]:
        """Return ``run.json``: the suite's name, the ids that the plan holds, the machine."""
        return read_json(self.path / "run.json")

    def columns(self) -> dict[str, Column]:
        """Return what the columns mean, by name, in the order in which tables show them."""
        return {entry["name"]: completed(entry) for entry in read_json(self.path / "columns.json")}

    def lock(self) -> filelock.FileLock:
        """Return the lock that keeps two processes from writing the same run directory."""
        return filelock.FileLock(self.path / ".lock", timeout=0)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong in a run directory; ``what`` names the teacher or the cell that it is about."""

    path: str
    problem: str
    what: str = ""


def check(path: str | Path, *, records_only: bool = False) -> list[Finding]:
    """Return what is wrong in a run directory: unfinished or failed cells, files missing or changed.

    Assistants, independent teachers and the files of earlier plans are checked like those of the plan. With
    ``records_only`` the weights and logits may be absent (as in a published run); what is there is checked
    all the same.
    """
    run = RunDirectory.open(path)
    findings: list[Finding] = []
    manifest = run.manifest()
    kinds: dict[Kind, list[str]] = {
        "teachers": [*manifest["teachers"], *run.supporting_ids()],
        "cells": manifest["cells"],
    }
    for kind, ids in kinds.items():
        for id in ids:
            where, record = f"{kind}/{id}", run.record(kind, id)
            if record is None:
                what = _named(manifest.get("labels", {}).get(id, {}))
                findings.append(Finding(where, "not finished: it has no record.json", what))
                continue
            if record["status"] == "failed":
                findings.append(Finding(where, f"failed: {reason_of(record)}", _named(record)))
            findings.extend(_check_files(run, record, records_only))
    for record in run.earlier():
        findings.extend(_check_files(run, record, records_only))
    return findings


def earlier_note(path: str | Path) -> str | None:
    """Return what a reader must know of the finished cells of earlier plans, or None where there are none."""
    run = RunDirectory.open(path)
    count = sum(record["role"] == "student" and record["status"] == "ok" for record in run.earlier())
    if not count:
        return None
    cells = "1 finished cell" if count == 1 else f"{count:,} finished cells"
    return (
        f"Not shown: {cells} of earlier plans of this suite (other seeds, recipe or parts) in {run.path}. "
        f"'kdbench report {run.path}' lists them in {EARLIER}; to show them run the suite as it was then, "
        "which trains nothing that is finished."
    )


def _named(labels: Mapping[str, Any]) -> str:
    """Return what a person calls a teacher or a cell."""
    seed = f"seed {labels['seed']}" if labels.get("seed") is not None else None
    teacher = f"teacher {labels['teacher']}" if labels.get("teacher") else None
    return ", ".join(filter(None, (labels.get("student"), labels.get("method"), teacher, seed)))


def _check_files(run: RunDirectory, record: Mapping[str, Any], records_only: bool) -> Iterator[Finding]:
    for name, expected in record["files"].items():
        where = f"{kind_of(record)}/{record['id']}/{name}"
        file = run.path / where
        unpublished = records_only and file.suffix == ".safetensors" and not file.is_file()
        problem = None if unpublished else _problem(file, expected)
        if problem:
            yield Finding(where, problem, _named(record))


def _problem(file: Path, expected: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a file that a record lists."""
    if not file.is_file():
        return "missing, though the record lists it"
    if sha256_of(file) != expected.get("sha256"):
        return "changed since it was recorded: its checksum differs"
    return None
