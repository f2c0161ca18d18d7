"""The run directory: records written atomically, amended, read back, and checked by checksum.

Layout of a run directory::

    suite.yaml                       the suite as it was resolved
    run.json                         suite name, plan and its labels, machine, when it started
    columns.json                     what every column means: title, direction, unit, source
    nodes/ID/record.json             a teacher, an assistant, a student, a link: written last, see `Record`
    nodes/ID/predictions.safetensors logits and labels of the splits; of a further head in HEAD.predictions...
    nodes/ID/outcomes.parquet        label and prediction of every test example: small enough to publish
    nodes/ID/weights.safetensors     weights of the last epoch; weights_best... those best on validation
    nodes/ID/decision.json           of a compressor: what it decided about the network
    nodes/ID/history.csv             one line an epoch
    nodes/ID/traceback.txt           of a failed node: where in the code it failed
    costs/ID/cost.json               what the models of the run cost, and latency.parquet
    results.csv, results.parquet     every record as a row; rebuilt from the records at will
    results_earlier.csv              the records of earlier plans of the suite, where there are any
    report/                          tables, figures and the HTML page

What earlier versions wrote lies in ``teachers/ID`` and ``cells/ID`` and is read, and amended, there.

This package never imports torch, so that a run can be read on any machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import filelock

from kdbench.column import Column
from kdbench.column_names import completed
from kdbench.errors import SharedFault, UserError
from kdbench.store.files import Fingerprints, read_json, sha256_of, write_json
from kdbench.store.record import HOMES, RECORD, Record, named

EARLIER = "results_earlier.csv"
# The folder of runs that 'kdbench run' writes into, and whose teachers they share.
RUNS = Path("runs")


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

    def folder(self, id: str) -> Path:
        """Return the folder of one node: where it lies, or shall lie."""
        return self.path / self._home(id) / id

    def _home(self, id: str) -> str:
        return next((home for home in HOMES if (self.path / home / id / RECORD).is_file()), HOMES[0])

    def record(self, id: str) -> Record | None:
        """Return the record of a finished node, or None where it is not finished."""
        home = self._home(id)
        path = self.path / home / id / RECORD
        return Record.from_json(read_json(path), home) if path.is_file() else None

    def write(self, record: Record) -> None:
        """Write a record, which is what finishes a node.

        Its ``files`` are those that the caller has written (see `write_recorded`): what else lies there, or
        has become of them meanwhile, is not vouched for.
        """
        write_json(self.path / record.place / RECORD, record.as_json())

    def amend(self, record: Record, files: Fingerprints | None = None, **changes: Any) -> Record:
        """Write a finished record with some of its fields changed, and return it.

        The files beside it keep the fingerprints that they were recorded with, so that `check` still finds
        damage to them; ``files`` are those of files that the caller has written anew.
        """
        amended = replace(record, **changes, files=record.files | (files or {}))
        self.write(amended)
        return amended

    def recorded_file(self, record: Record, name: str) -> Path:
        """Return the path of a file beside a record; raises SharedFault where it is not what was recorded."""
        file = self.path / record.place / name
        problem = _problem(file, record.files.get(name, {}))
        if problem:
            raise SharedFault(f"{file}: {problem}. Delete {file.parent} and run the suite again.")
        return file

    def records(self) -> Iterator[Record]:
        """Yield every record that is a row: the teachers first, then the cells in the order of the plan."""
        manifest = self.manifest()
        yield from self.existing([*manifest["teachers"], *manifest["cells"]])

    def supporting(self) -> Iterator[Record]:
        """Yield the records that rows rest on but that are none: assistants, links, independent teachers."""
        yield from self.existing(self.supporting_ids())

    def supporting_ids(self) -> list[str]:
        """Return the ids of what rows rest on, whether there is a record of it or not.

        The manifest of a run from before it named them does not: finished records lead to them too.
        """
        manifest = self.manifest()
        rows = {*manifest["teachers"], *manifest["cells"]}
        ids = dict.fromkeys(manifest.get("supporting", []))
        waiting = [*self.records(), *self.existing(ids)]
        while waiting:
            new = [id for id in waiting.pop().rests_on if id not in ids and id not in rows]
            ids |= dict.fromkeys(new)
            waiting += self.existing(new)
        return list(ids)

    def earlier(self) -> list[Record]:
        """Return the records of earlier plans of the suite that lie here too: teachers, then cells."""
        manifest = self.manifest()
        present = {*manifest["teachers"], *manifest["cells"], *self.supporting_ids()}
        lying = sorted(path.parent.name for home in HOMES for path in self.path.glob(f"{home}/*/{RECORD}"))
        others = list(self.existing(id for id in lying if id not in present))
        cells = [record for record in others if record.role == "student"]
        cells.sort(key=lambda cell: (cell.teacher, cell.student, cell.method, cell.seed))
        taught = {cell.origin for cell in cells}
        return [*(record for record in others if record.id in taught), *cells]

    def existing(self, ids: Iterable[str]) -> Iterator[Record]:
        """Yield the records of those nodes that have one."""
        yield from filter(None, map(self.record, ids))

    def manifest(self) -> dict[str, Any]:
        """Return ``run.json``: the suite's name, the ids that the plan holds, the machine."""
        content = read_json(self.path / "run.json")
        # What earlier versions called further heads.
        return content | ({"heads": content["tasks"]} if "tasks" in content else {})

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
    for id in (*manifest["teachers"], *run.supporting_ids(), *manifest["cells"]):
        record = run.record(id)
        if record is None:
            labels = manifest.get("labels", {}).get(id, {})
            findings.append(Finding(f"{HOMES[0]}/{id}", f"not finished: it has no {RECORD}", named(labels)))
            continue
        if record.status == "failed":
            findings.append(Finding(record.place, f"failed: {record.outcome}", record.named))
        findings.extend(_check_files(run, record, records_only))
    for record in run.earlier():
        findings.extend(_check_files(run, record, records_only))
    return findings


def earlier_note(path: str | Path) -> str | None:
    """Return what a reader must know of the finished cells of earlier plans, or None where there are none."""
    run = RunDirectory.open(path)
    count = sum(record.role == "student" and record.status == "ok" for record in run.earlier())
    if not count:
        return None
    cells = "1 finished cell" if count == 1 else f"{count:,} finished cells"
    return (
        f"Not shown: {cells} of earlier plans of this suite (other seeds, recipe or parts) in {run.path}. "
        f"'kdbench report {run.path}' lists them in {EARLIER}; to show them run the suite as it was then, "
        "which trains nothing that is finished."
    )


def _check_files(run: RunDirectory, record: Record, records_only: bool) -> Iterator[Finding]:
    for name, expected in record.files.items():
        where = f"{record.place}/{name}"
        file = run.path / where
        unpublished = records_only and file.suffix == ".safetensors" and not file.is_file()
        problem = None if unpublished else _problem(file, expected)
        if problem:
            yield Finding(where, problem, record.named)


def _problem(file: Path, expected: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a file that a record lists."""
    if not file.is_file():
        return "missing, though the record lists it"
    if sha256_of(file) != expected.get("sha256"):
        return "changed since it was recorded: its checksum differs"
    return None
