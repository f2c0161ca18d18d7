"""Damaged and hostile run directories: noticed in one line; nothing outside of them is read or written."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdbench.column import Column
from kdbench.errors import SharedFault, UserError
from kdbench.store import Record, RunDirectory, check, load, locked, within, write_recorded, write_results
from kdbench.store.checking import missing_weights
from kdbench.store.files import replacing
from kdbench.store.sealed import SEAL, write_sealed

ID = "0123456789ab"
COST = {"metrics": {"small": {"macs": 5.0}}, "reasons": {"small": {}}, "conditions": {}}
DECIDING = ("run.json", "columns.json", "suite.yaml", f"nodes/{ID}/record.json", f"nodes/{ID}/history.csv")
DECIDING += (f"nodes/{ID}/weights.safetensors", "costs/c1/cost.json", "costs/c1/latency.parquet")


def make_run(path: Path) -> RunDirectory:
    """Write a run of one finished cell with costs, and return it."""
    run = RunDirectory(path)
    fields: dict[str, Any] = {"suite": "s", "dataset": "digits", "sizes": {"test": 8}, "teachers": []}
    run.write_manifest(fields | {"cells": [ID]}, "name: s\n")
    run.write_columns([Column("top1", "Accuracy", "task", "higher", range="[0, 1]")])
    run.write_cost("c1", COST, b"samples")
    files = write_recorded(run.folder(ID) / "history.csv", "epoch\n1\n")
    files |= write_recorded(run.folder(ID) / "weights.safetensors", b"123")
    run.write(
        Record(
            ID,
            "student",
            "ok",
            "big",
            0,
            student="small",
            method="kd",
            metrics={"top1": 0.5},
            amendments={"costs": "c1:0"},
            files=files,
        )
    )
    return run


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return make_run(tmp_path / "run")


def is_noticed(run: RunDirectory) -> bool:
    """Return whether a check says that something is wrong, in one line each."""
    try:
        problems = [finding.problem for finding in check(run.path)]
    except UserError as error:
        problems = [str(error)]
    assert all("\n" not in problem for problem in problems)
    return bool(problems)


def test_a_whole_run_is_found_whole(run: RunDirectory) -> None:
    assert check(run.path) == []
    assert load(run.path).top1.tolist() == [0.5]


DAMAGE: dict[str, Callable[[Path], object]] = {
    "halved": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "emptied": lambda file: file.write_bytes(b""),
    "an object": lambda file: file.write_text("{}"),
    "a list": lambda file: file.write_text("[]"),
    "text": lambda file: file.write_text("hello"),
    "not UTF-8": lambda file: file.write_bytes(b"\xff\xfe\x00"),
    "deep": lambda file: file.write_text("[" * 100_000),
    "no number": lambda file: file.write_text('{"a": NaN}'),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
    "a link": lambda file: (file.rename(file.parent.parent / "moved"), file.symlink_to("../moved")),
    "deleted": lambda file: file.unlink(),
}


@pytest.mark.parametrize("name", DECIDING)
@pytest.mark.parametrize("how", DAMAGE)
def test_every_damage_to_what_decides_a_result_is_noticed(run: RunDirectory, name: str, how: str) -> None:
    DAMAGE[how](run.path / name)
    assert is_noticed(run)


@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), name=st.sampled_from(DECIDING))
def test_a_flipped_bit_anywhere_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, where: float, bit: int, name: str
) -> None:
    run = make_run(tmp_path_factory.mktemp("run") / "run")
    file = run.path / name
    content = bytearray(file.read_bytes())
    content[int(where * len(content))] ^= 1 << bit
    same = name.endswith(".json") and _loaded(bytes(content)) == _loaded(file.read_bytes())
    file.write_bytes(content)
    # Of JSON, white space may change to other white space, which means the same.
    assert same or is_noticed(run)


def _loaded(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = [
    "id",
    "role",
    "status",
    "metrics",
    "files",
    "config",
    "amendments",
    "tables",
    "origin",
    "start",
    "x",
]


@given(
    content=VALUES
    | st.dictionaries(st.sampled_from([*FIELDS, "schema", "suite", "cells", "columns"]), VALUES)
)
def test_no_document_ends_in_anything_but_a_result_or_a_line(
    tmp_path_factory: pytest.TempPathFactory, content: Any
) -> None:
    for name in ("run.json", "columns.json", f"nodes/{ID}/record.json", "costs/c1/cost.json"):
        run = make_run(tmp_path_factory.mktemp("run") / "run")
        (run.path / name).write_text(json.dumps(content))
        assert is_noticed(run)
        try:
            load(run.path)
        except UserError as error:
            assert "\n" not in str(error)


@given(field=st.sampled_from(FIELDS), value=VALUES)
def test_no_field_of_a_sealed_record_ends_in_anything_but_a_result_or_a_line(
    tmp_path_factory: pytest.TempPathFactory, field: str, value: Any
) -> None:
    run = make_run(tmp_path_factory.mktemp("run") / "run")
    file = run.folder(ID) / "record.json"
    content = json.loads(file.read_text())
    del content[SEAL]
    write_sealed(file, content | {field: value})
    try:
        for finding in check(run.path):
            assert "\n" not in finding.problem
        load(run.path)
    except UserError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": "../../../victim/x"}, "is the record of another node"),
        ({"id": "abc"}, "is the record of another node"),
        ({"schema": 99}, "has schema 99, this kdbench reads up to 2"),
        ({"metrics": {"top1": "abc"}}, "metrics.top1: Input should be a valid number"),
        ({"status": "fine"}, "status: Input should be"),
    ],
)
def test_a_record_that_means_nothing_is_refused(
    run: RunDirectory, changes: dict[str, Any], message: str
) -> None:
    file = run.folder(ID) / "record.json"
    content = json.loads(file.read_text())
    content.pop(SEAL)
    if "schema" in changes:  # of a later version: what it holds, and how it is sealed, is not known
        file.write_text(json.dumps(content | changes))
    else:
        write_sealed(file, content | changes)
    with pytest.raises(SharedFault, match=message):
        run.record(ID)
    assert is_noticed(run)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"metrics": {"top1": 1e308}}, r"top1 is 1e\+308, outside \[0, 1\]"),
        ({"metrics": {"top1": -0.1}}, r"top1 is -0.1, outside \[0, 1\]"),
        ({"metrics": {}}, "it is finished and has no metrics"),
        ({"files": {"../../../victim/x": {}}}, "names no file or node of"),
        ({"files": {"/etc/passwd": {}}}, "names no file or node of"),
        ({"amendments": {"costs": "../c1:0"}}, "names no file or node of"),
    ],
)
def test_a_check_looks_at_what_a_record_says(
    run: RunDirectory, changes: dict[str, Any], problem: str
) -> None:
    record = run.record(ID)
    assert record is not None
    run.write(Record(**vars(record) | changes))
    (finding,) = check(run.path)
    assert re.search(problem, finding.problem)


def test_what_a_finished_record_lists_is_verified_and_absent_weights_are_named(run: RunDirectory) -> None:
    assert missing_weights(run, [ID, "never"]) == []
    (run.folder(ID) / "weights.safetensors").unlink()
    assert missing_weights(run, [ID]) == [f"nodes/{ID}/weights.safetensors"]
    # Where others are there, this is no published run.
    record = run.record(ID)
    assert record is not None
    logits = write_recorded(run.folder(ID) / "predictions.safetensors", b"1")
    run.amend(record, logits)
    with pytest.raises(SharedFault, match=r"weights\.safetensors: missing, though the record lists it"):
        missing_weights(run, [ID])
    run.write(record)
    (run.folder(ID) / "history.csv").unlink()
    with pytest.raises(SharedFault, match=r"history\.csv: missing, though the record lists it"):
        missing_weights(run, [ID])


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/etc", ".hidden", "a\0b", "a\nb", "a\\b", "x" * 300])
def test_a_name_that_could_lead_elsewhere_is_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(SharedFault, match="names no file or node"):
        within(tmp_path, "nodes", name)
    assert within(tmp_path, "nodes", "coarse_label.predictions.safetensors").parent.name == "nodes"


@pytest.mark.parametrize("part", ["nodes", f"nodes/{ID}", "costs", "costs/c1"])
def test_a_folder_that_is_a_link_is_not_followed(run: RunDirectory, tmp_path: Path, part: str) -> None:
    victim = tmp_path / "victim"
    shutil.move(run.path / part, victim)
    (run.path / part).symlink_to(victim)
    before = sorted(victim.rglob("*"))
    assert is_noticed(run)
    with pytest.raises(SharedFault, match="is a link, which is not followed"):
        run.write_cost("c1", COST) if part.startswith("costs") else run.record(ID)
    assert sorted(victim.rglob("*")) == before


def test_a_partial_file_that_is_a_link_is_not_written_through(run: RunDirectory, tmp_path: Path) -> None:
    victim = tmp_path / "victim.txt"
    victim.write_text("mine")
    for name in (".results.csv.partial", "results.csv", ".run.json.partial"):
        (run.path / name).symlink_to(victim)
    write_results(run) if not (run.path / "results.csv").is_symlink() else None
    with replacing(run.path / "results.csv") as file:
        file.write(b"new")
    assert victim.read_text() == "mine" and not (run.path / "results.csv").is_symlink()
    assert (run.path / "results.csv").read_bytes() == b"new"
    assert not (run.path / ".results.csv.partial").exists()


def test_what_cannot_be_written_leaves_the_old_file_and_no_part_of_the_new(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(b"old")
    with pytest.raises(SharedFault, match=r"cannot write .*a.bin: No space left"), replacing(file) as new:
        new.write(b"ne")
        raise OSError(28, "No space left on device")
    with pytest.raises(RuntimeError), replacing(file) as new:
        raise RuntimeError("while it is made")
    assert [left.name for left in tmp_path.iterdir()] == ["a.bin"] and file.read_bytes() == b"old"
    with pytest.raises(SharedFault, match="File name too long"), replacing(tmp_path / ("x" * 300)):
        pass


def test_a_lock_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    busy = pytest.raises(UserError, match="another kdbench process is working on")
    with locked(tmp_path), busy, locked(tmp_path):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(SharedFault, match=r"cannot lock .*file"), locked(tmp_path / "file"):
        pass
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / ".lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SharedFault, match="is a link, which is not followed"), locked(tmp_path / "linked"):
        pass
    assert not (tmp_path / "elsewhere").exists()
    (tmp_path / "folder" / ".lock").mkdir(parents=True)
    with pytest.raises(SharedFault, match="cannot lock"), locked(tmp_path / "folder"):
        pass


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"student": None}, "names no student or no method"),
        ({"method": None}, "names no student or no method"),
        ({"config": {"dataset": "digits"}}, "config.dataset is no mapping"),
        ({"config": {"dataset": {}}}, "config.dataset has no name"),
        ({"config": {"student": 3}}, "config.student is no mapping"),
    ],
)
def test_a_record_that_no_run_writes_is_damaged(
    run: RunDirectory, changes: dict[str, Any], problem: str
) -> None:
    record = run.record(ID)
    assert record is not None
    run.write(Record(**vars(record) | changes))
    with pytest.raises(SharedFault, match=problem):
        run.record(ID)
    assert any(problem in finding.problem for finding in check(run.path))
