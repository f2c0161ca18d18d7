"""The run directory: records written atomically, read back into pandas, checked by checksum.

Layout of a run directory::

    suite.yaml                       the suite as it was resolved
    run.json                         suite name and plan, machine, when it started
    columns.json                     what every column means: title, direction, unit, source
    teachers/ID/record.json          a teacher: the same files as a cell
    cells/ID/record.json             written last: a cell without it is not finished
    cells/ID/predictions.safetensors logits and labels of the splits; of a further task in TASK.predictions...
    cells/ID/outcomes.parquet        label and predicted class of every test example: small enough to publish
    cells/ID/student.safetensors     weights of the last and of the best epoch
    cells/ID/history.csv             one line an epoch
    costs/ID/cost.json               what the models of the run cost, and latency.parquet
    results.csv, results.parquet     every record as a row; rebuilt from the records at will
    report/                          tables, figures and the HTML page

This module never imports torch, so that a run can be read on any machine.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import filelock

from kdbench.column import Column
from kdbench.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1
OUTCOMES = "outcomes.parquet"
PREDICTIONS = "predictions.safetensors"
Kind = Literal["teachers", "cells"]

# What identifies a row of the results; metrics and durations follow in the order of columns.json.
IDENTITY = (
    "id",
    "role",
    "status",
    "reason",
    "dataset",
    "teacher",
    "student",
    "method",
    "method_name",
    "seed",
    "cohort",
)


def canonical_json(value: Any) -> str:
    """Return the one text that equal values share: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def content_id(value: Any) -> str:
    """Return the twelve hexadecimal digits that identify a resolved configuration."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:12]


def fingerprint_of(path: Path) -> dict[str, Any]:
    """Return what a record keeps of a file beside it."""
    return {"sha256": sha256_of(path), "bytes": path.stat().st_size}


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def kind_of(record: Mapping[str, Any]) -> Kind:
    """Return the folder that a record lies in; assistants are teachers."""
    return "cells" if record["role"] == "student" else "teachers"


def write_atomic(path: Path, content: bytes | str, *, durable: bool = True) -> None:
    """Write a file so that a reader sees the old content or the new one, never a part (see `replacing`)."""
    with replacing(path, durable=durable) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """Open a file that takes the place of ``path`` once all of it is written.

    A killed process cannot damage what is there; with ``durable`` neither can a power cut.

    Raises UserError, with the old content kept, where the disk is full or the folder is not writable.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        if partial.exists():
            partial.unlink()
        raise UserError(
            f"cannot write {path}: {error.strerror or error}. Free space or choose another --out."
        ) from error


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically; NaN and infinity are refused."""
    write_atomic(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; a file that is missing or damaged is a UserError that names it."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} is missing: is {path.parent} a run directory?") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid JSON ({error}): delete it and run the suite again.") from None


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

    def write_record(self, kind: Kind, record: dict[str, Any]) -> None:
        """Write a record with the checksums of the files beside it; this is what finishes a cell."""
        folder = self.folder(kind, record["id"])
        files = {
            path.name: fingerprint_of(path)
            for path in sorted(folder.glob("*"))
            if path.is_file() and path.name != "record.json" and not path.name.startswith(".")
        }
        write_json(folder / "record.json", {"schema": SCHEMA, **record, "files": files})

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield every record: the teachers first, then the cells in the order of the plan."""
        for teacher in self.manifest()["teachers"]:
            record = self.record("teachers", teacher)
            if record is not None:
                yield record
        for cell in self.manifest()["cells"]:
            record = self.record("cells", cell)
            if record is not None:
                yield record

    def manifest(self) -> dict[str, Any]:
        """Return ``run.json``: the suite's name, the ids that the plan holds, the machine."""
        return read_json(self.path / "run.json")

    def columns(self) -> dict[str, Column]:
        """Return what the columns mean, by name, in the order in which tables show them."""
        return {entry["name"]: Column(**entry) for entry in read_json(self.path / "columns.json")}

    def lock(self) -> filelock.FileLock:
        """Return the lock that keeps two processes from writing the same run directory."""
        return filelock.FileLock(self.path / ".lock", timeout=0)


def load(path: str | Path) -> pd.DataFrame:
    """Return the records of a run as a table: one row a teacher or cell, one column a metric.

    Columns are those of ``IDENTITY``, then every metric in the order of ``columns.json``, then
    ``best_epoch`` and ``data_checksum``. A metric that is null stays missing.

    Raises:
        UserError: where ``path`` is not a run directory.
    """
    import pandas as pd  # slow to import, and most of this module does without

    run = RunDirectory.open(path)
    metrics = list(run.columns())
    rows = []
    for record in run.records():
        row = {name: record.get(name) for name in IDENTITY}
        row |= {name: record["metrics"].get(name) for name in metrics}
        row["best_epoch"] = record.get("best_epoch")
        row["data_checksum"] = record.get("provenance", {}).get("data_checksum")
        rows.append(row)
    frame = pd.DataFrame(rows, columns=[*IDENTITY, *metrics, "best_epoch", "data_checksum"])
    numeric = [*metrics, "best_epoch"]
    return frame.astype(dict.fromkeys(numeric, "float64"))


def write_results(run: RunDirectory) -> pd.DataFrame:
    """Rebuild ``results.csv`` and ``results.parquet`` from the records and return the table."""
    frame = load(run.path)
    write_atomic(run.path / "results.csv", frame.to_csv(index=False))
    write_atomic(run.path / "results.parquet", frame.to_parquet(index=False))
    return frame


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing, in a run directory."""

    path: str
    problem: str


def check(path: str | Path, *, records_only: bool = False) -> list[Finding]:
    """Return what is wrong in a run directory: unfinished or failed cells, files missing or changed.

    With ``records_only`` the weights and logits may be absent (as in a published run); what is
    there is checked all the same.
    """
    run = RunDirectory.open(path)
    findings = []
    manifest = run.manifest()
    for kind in ("teachers", "cells"):
        for id in manifest[kind]:
            where = f"{kind}/{id}"
            record = run.record(kind, id)
            if record is None:
                findings.append(Finding(where, "not finished: it has no record.json"))
                continue
            if record["status"] == "failed":
                findings.append(Finding(where, f"failed: {record['reason']}"))
            findings.extend(_check_files(run, kind, record, records_only))
    return findings


def _check_files(run: RunDirectory, kind: Kind, record: dict[str, Any], records_only: bool) -> list[Finding]:
    findings = []
    for name, expected in record["files"].items():
        file = run.folder(kind, record["id"]) / name
        where = f"{kind}/{record['id']}/{name}"
        if not file.is_file():
            if not (records_only and file.suffix == ".safetensors"):
                findings.append(Finding(where, "missing, though the record lists it"))
        elif sha256_of(file) != expected["sha256"]:
            findings.append(Finding(where, "changed since it was recorded: its checksum differs"))
    return findings
