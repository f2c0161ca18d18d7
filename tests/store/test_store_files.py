"""Files: atomic writes, ids, fingerprints."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdbench.errors import SharedFault, UserError
from kdbench.store import (
    canonical_json,
    content_id,
    locked,
    read_json,
    write_atomic,
    write_json,
    write_recorded,
)
from kdbench.suite.yaml_source import YamlSource

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


def test_the_fingerprint_is_of_what_was_written_not_of_what_lies_there(tmp_path: Path) -> None:
    file = tmp_path / "history.csv"
    files = write_recorded(file, "epoch\n1\n")
    expected = {"sha256": hashlib.sha256(b"epoch\n1\n").hexdigest(), "bytes": 8}
    file.write_text("damage")
    assert files == {"history.csv": expected}


def test_what_is_in_the_way_of_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    for path, name in ((tmp_path / "folder", "folder"), (tmp_path / "file" / "below" / "it", "file")):
        with pytest.raises(SharedFault, match=f"Delete {tmp_path / name}, which is in the way"):
            write_atomic(path, "x")
    with pytest.raises(SharedFault, match=r"Delete .*file, which is in the way"), locked(tmp_path / "file"):
        pass
    (tmp_path / "run" / ".lock").mkdir(parents=True)
    with pytest.raises(SharedFault, match=r"delete .*\.lock, which is no file"), locked(tmp_path / "run"):
        pass


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SharedFault, match="is not a file: delete it"):
        read_json(tmp_path / "pipe")
    with pytest.raises(UserError, match="is not a file"):
        YamlSource.read(tmp_path / "pipe")
