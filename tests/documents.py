"""Documents of run directories that a test writes or changes by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kdbench.store import read_json, sha256_of, write_json
from kdbench.store.sealed import SCHEMA, SEAL, write_sealed


def write_document(path: Path, content: Any) -> None:
    """Write a document: sealed where it says the schema that is, else as earlier versions wrote it."""
    if isinstance(content, dict) and content.get("schema") == SCHEMA:
        write_sealed(path, {name: value for name, value in content.items() if name != SEAL})
    else:
        write_json(path, content)


def edit(path: Path, **changes: Any) -> None:
    """Change fields of a document, so that it is as if it had been written so."""
    write_document(path, read_json(path) | changes)


def list_files(run: Path) -> Path:
    """Give every record of a run the fingerprints of the files that lie beside it."""
    for path in run.glob("*/*/record.json"):
        beside = [file for file in path.parent.iterdir() if file != path]
        files = {file.name: {"sha256": sha256_of(file)} for file in beside}
        edit(path, files=read_json(path).get("files", {}) | files)
    return run
