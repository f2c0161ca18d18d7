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
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kdbench.column import Column
from kdbench.column_names import completed
from kdbench.errors import SharedFault, UserError
from kdbench.store.documents import ColumnsShape, CostShape, ManifestShape
from kdbench.store.files import Fingerprints, fingerprint, sha256_of, write_atomic, write_recorded
from kdbench.store.places import locked, within
from kdbench.store.record import HOMES, RECORD, SHAPE, Record, fault_of
from kdbench.store.sealed import read_sealed, write_sealed

EARLIER = "results_earlier.csv"
# The folder of runs that 'kdbench run' writes into, and whose teachers they share.
RUNS = Path("runs")
MANIFEST = "run.json"
COLUMNS = "columns.json"
SUITE = "suite.yaml"
SAMPLES = "latency.parquet"
AGAIN = "Delete it and run the suite again."


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
        for name in (MANIFEST, SUITE, COLUMNS):
            run.inside(name)  # refuses a link
        if not run.is_begun:
            raise UserError(f"{path} is not a run directory: it holds no {MANIFEST}.")
        return run

    @property
    def is_begun(self) -> bool:
        """Whether a run was begun here."""
        return self.inside(MANIFEST).is_file()

    def inside(self, *names: str) -> Path:
        """Return a path in the directory; raises SharedFault for one that leads out of it (see `within`)."""
        return within(self.path, *names)

    def folder(self, id: str) -> Path:
        """Return the folder of one node: where it lies, or shall lie."""
        return self.inside(self._home(id), id)

    def _home(self, id: str) -> str:
        return next((home for home in HOMES if self.inside(home, id, RECORD).is_file()), HOMES[0])

    def record(self, id: str) -> Record | None:
        """Return the record of a finished node, or None where it is not finished.

        Raises SharedFault where it is damaged.
        """
        home = self._home(id)
        path = self.inside(home, id, RECORD)
        if not path.is_file():
            return None
        mend = f"Delete {path.parent} and run the suite again."
        content = read_sealed(path, SHAPE, mend)
        if fault := fault_of(content):
            raise SharedFault(f"{path} is damaged: {fault}. {mend}")
        if content["id"] != id:
            raise SharedFault(f"{path} is the record of another node, {content['id']!r:.40}. {mend}")
        return Record.from_json(content, home)

    def write(self, record: Record) -> None:
        """Write a record, which is what finishes a node.

        Its ``files`` are those that the caller has written (see `write_recorded`): what else lies there, or
        has become of them meanwhile, is not vouched for.
        """
        write_sealed(self.inside(record.home, record.id, RECORD), record.as_json())

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
        file = self.inside(record.home, record.id, name)
        if problem := problem_of(file, record.files.get(name, {})):
            raise SharedFault(f"{file}: {problem}. Delete {file.parent} and run the suite again.")
        return file

    def holds(self, record: Record, name: str | None) -> bool:
        """Return whether a file lies beside a record; a published run has no weights and no logits."""
        return name is not None and self.inside(record.home, record.id, name).is_file()

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
        others = list(self.existing(id for id in self.lying() if id not in present))
        cells = [record for record in others if record.role == "student"]
        cells.sort(key=lambda cell: (cell.teacher, cell.student, cell.method, cell.seed))
        taught = {cell.origin for cell in cells}
        return [*(record for record in others if record.id in taught), *cells]

    def lying(self) -> list[str]:
        """Return the ids of all nodes that lie here with a record, of whichever plan."""
        return sorted(path.parent.name for home in HOMES for path in self.path.glob(f"{home}/*/{RECORD}"))

    def existing(self, ids: Iterable[str]) -> Iterator[Record]:
        """Yield the records of those nodes that have one."""
        yield from filter(None, map(self.record, ids))

    def manifest(self) -> dict[str, Any]:
        """Return ``run.json``: the suite's name, the ids that the plan holds, the machine."""
        content = read_sealed(self.inside(MANIFEST), ManifestShape, AGAIN)
        # What earlier versions called further heads.
        return content | ({"heads": content["tasks"]} if "tasks" in content else {})

    def columns(self) -> dict[str, Column]:
        """Return what the columns mean, by name, in the order in which tables show them."""
        content = read_sealed(self.inside(COLUMNS), ColumnsShape, AGAIN, of_list="columns")
        return {entry["name"]: completed(entry) for entry in content["columns"]}

    def write_manifest(self, content: Mapping[str, Any], suite: str) -> None:
        """Write what this run is, and then the suite as it was resolved, which the former vouches for."""
        files = {SUITE: fingerprint(suite.encode())}
        write_sealed(self.inside(MANIFEST), {**content, "files": files})
        write_atomic(self.inside(SUITE), suite)

    def suite_problem(self) -> str | None:
        """Return what is wrong with the file of the suite, None where nothing is."""
        expected = self.manifest().get("files", {}).get(SUITE)
        return problem_of(self.inside(SUITE), expected) if expected else None

    def write_columns(self, columns: Iterable[Column]) -> None:
        """Write what the columns mean."""
        write_sealed(self.inside(COLUMNS), {"columns": [column.as_json() for column in columns]})

    def cost(self, id: str) -> dict[str, Any] | None:
        """Return what models cost, as it was measured under an id, or None where nothing was.

        Raises SharedFault where it is damaged, or the samples that it was made from are.
        """
        file = self.inside("costs", id, "cost.json")
        if not file.is_file():
            return None
        mend = f"Delete {file.parent} and run the suite again, which measures anew."
        content = read_sealed(file, CostShape, mend)
        for name, expected in content.get("files", {}).items():
            if problem := problem_of(self.inside("costs", id, name), expected):
                raise SharedFault(f"{file.with_name(name)}: {problem}. {mend}")
        return content

    def samples(self, id: str) -> Path:
        """Return the file with the samples that costs were made from."""
        return self.inside("costs", id, SAMPLES)

    def write_cost(self, id: str, content: Mapping[str, Any], samples: bytes | None = None) -> None:
        """Write what models cost, and first the samples that it was made from, as a parquet file."""
        files = {}
        if samples is not None:
            files = {"files": write_recorded(self.samples(id), samples)}
        write_sealed(self.inside("costs", id, "cost.json"), {**content, **files})

    def lock(self) -> AbstractContextManager[None]:
        """Keep other processes from writing the same run directory (see `locked`)."""
        return locked(self.path)


def problem_of(file: Path, expected: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a file that a record lists."""
    if not file.is_file():
        return "missing, though the record lists it"
    try:
        changed = sha256_of(file) != expected.get("sha256")
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    return "changed since it was recorded: its checksum differs" if changed else None


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
