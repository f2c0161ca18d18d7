"""The run directory: atomic writes, checksums, reading back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdbench.errors import UserError
from kdbench.store import RunDirectory, canonical_json, check, content_id, write_atomic, write_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_ids_do_not_depend_on_the_order_of_fields(value: dict) -> None:
    assert content_id(value) == content_id(dict(reversed(list(value.items()))))
    assert len(content_id(value)) == 12


@given(JSON, JSON)
def test_ids_differ_where_values_differ(first: object, second: object) -> None:
    assert (content_id(first) == content_id(second)) == (canonical_json(first) == canonical_json(second))


def test_nan_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "record.json", {"top1": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "record.json"
    write_atomic(file, "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        write_atomic(file, "new")
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot write") as caught:
        write_atomic(tmp_path / "file" / "record.json", "x")
    assert "\n" not in str(caught.value)


def run_with_one_cell(path: Path) -> RunDirectory:
    run = RunDirectory(path)
    write_json(path / "run.json", {"suite": "s", "teachers": [], "cells": ["abc", "def"]})
    write_atomic(run.folder("cells", "abc") / "history.csv", "epoch\n1\n")
    write_atomic(run.folder("cells", "abc") / "student.safetensors", b"123")
    run.write_record("cells", {"id": "abc", "role": "student", "status": "ok", "reason": None, "metrics": {}})
    return run


def test_check_finds_what_is_missing_changed_and_failed(tmp_path: Path) -> None:
    run = run_with_one_cell(tmp_path)
    assert [f.problem for f in check(tmp_path)] == ["not finished: it has no record.json"]
    run.write_record(
        "cells", {"id": "def", "role": "student", "status": "failed", "reason": "diverged", "metrics": {}}
    )
    assert [f.problem for f in check(tmp_path)] == ["failed: diverged"]
    (run.folder("cells", "abc") / "history.csv").write_text("epoch\n2\n")
    assert "checksum differs" in check(tmp_path)[0].problem
    write_atomic(run.folder("cells", "abc") / "history.csv", "epoch\n1\n")
    (run.folder("cells", "abc") / "student.safetensors").unlink()
    assert "missing" in check(tmp_path)[0].problem
    assert [f.problem for f in check(tmp_path, records_only=True)] == ["failed: diverged"]


def test_what_is_not_a_run_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run directory at"):
        RunDirectory.open(tmp_path / "nothing")
    with pytest.raises(UserError, match=r"holds no run\.json"):
        RunDirectory.open(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        RunDirectory.open(tmp_path).manifest()
