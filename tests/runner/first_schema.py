"""A run directory as versions of kdbench wrote it whose records had schema 1."""

from __future__ import annotations

from kdbench.store import Record, RunDirectory, write_json

HOMES = {"teacher": "teachers", "assistant": "teachers", "student": "cells"}
# What newer records say in fields of their own.
NEWER = ("origin", "taught_by", "start", "amendments", "files")


def write_as_first_schema(run: RunDirectory) -> None:
    """Rewrite a run: folders and weights by role, a field for each amendment, no inputs but in ``config``."""
    for record in [*run.records(), *run.supporting()]:
        stem = "student" if record.role == "student" else "teacher"
        names = {name: name.replace("weights", stem) for name in record.files}
        old = run.path / HOMES[record.role] / record.id
        old.parent.mkdir(exist_ok=True)
        run.folder(record.id).rename(old)
        for name, former in names.items():
            (old / name).rename(old / former)
        content = record.as_json() | {"schema": 1}
        for name in NEWER:
            del content[name]
        write_json(
            old / "record.json",
            content
            | {
                "files": {names[name]: known for name, known in record.files.items()},
                "config": {name: value for name, value in record.config.items() if name != "network"},
                "cost_id": record.cost_id,
            }
            | _named(record, "independent", "independent_teacher")
            | _named(record, "shift", "robustness_id"),
        )
    assert not list((run.path / "nodes").glob("*/*.json"))


def _named(record: Record, amendment: str, field: str) -> dict[str, str]:
    return {field: record.amendments[amendment]} if amendment in record.amendments else {}
