"""The run directory: records and their amendments, what a check finds, cells of earlier plans."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kdbench.errors import UserError
from kdbench.store import (
    Record,
    RunDirectory,
    check,
    earlier_note,
    load,
    write_atomic,
    write_json,
    write_recorded,
    write_results,
)


def cell(id: str, **fields: Any) -> Record:
    known: dict[str, Any] = {
        "role": "student",
        "status": "ok",
        "teacher": "big",
        "student": "small",
        "method": "kd",
        "seed": 0,
        "metrics": {"top1": 0.5},
        "config": {"recipe": {"epochs": 2}},
    }
    return Record(id, **known | fields)


def write_manifest(path: Path, **fields: Any) -> None:
    known = {"suite": "s", "dataset": "digits", "sizes": {}, "teachers": [], "cells": ["abc"]}
    write_json(path / "run.json", known | fields)
    write_json(
        path / "columns.json", [{"name": "top1", "title": "t", "family": "task", "direction": "higher"}]
    )


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A run of one finished cell, which lists two files."""
    run = RunDirectory(tmp_path)
    write_manifest(tmp_path)
    folder = run.folder("abc")
    files = write_recorded(folder / "history.csv", "epoch\n1\n")
    files |= write_recorded(folder / "weights.safetensors", b"123")
    run.write(cell("abc", files=files))
    return run


def problems(run: RunDirectory, **options: Any) -> dict[str, str]:
    return {finding.path: finding.problem for finding in check(run.path, **options)}


def test_check_finds_what_is_missing_changed_and_failed(run: RunDirectory) -> None:
    write_manifest(run.path, cells=["abc", "def"])
    assert problems(run) == {"nodes/def": "not finished: it has no record.json"}
    run.write(cell("def", status="failed", reason="diverged", metrics={}))
    assert problems(run) == {"nodes/def": "failed: diverged"}
    (run.folder("abc") / "history.csv").write_text("epoch\n2\n")
    assert "checksum differs" in problems(run)["nodes/abc/history.csv"]
    write_atomic(run.folder("abc") / "history.csv", "epoch\n1\n")
    (run.folder("abc") / "weights.safetensors").unlink()
    assert "missing" in problems(run)["nodes/abc/weights.safetensors"]
    assert problems(run, records_only=True) == {"nodes/def": "failed: diverged"}


def test_an_amendment_gives_no_checksum_to_damage(run: RunDirectory) -> None:
    folder = run.folder("abc")
    (folder / "weights.safetensors").write_bytes(b"124")
    (folder / "history.csv").unlink()
    (folder / "stray.txt").write_text("x")
    before = run.record("abc")
    assert before is not None
    run.amend(before, metrics={"top1": 0.75})
    assert run.record("abc") == replace(before, metrics={"top1": 0.75})
    assert problems(run).keys() == {"nodes/abc/weights.safetensors", "nodes/abc/history.csv"}


def test_an_amendment_vouches_for_what_was_written_for_it(run: RunDirectory) -> None:
    before = run.record("abc")
    assert before is not None
    run.amend(before, write_recorded(run.folder("abc") / "history.csv", "epoch\n1\n2\n"))
    assert problems(run) == {}
    after = run.record("abc")
    assert after is not None and after.files["history.csv"]["bytes"] == 10
    assert after.files["weights.safetensors"] == before.files["weights.safetensors"]


def test_a_new_record_lists_only_what_its_writer_wrote(run: RunDirectory) -> None:
    files = write_recorded(run.folder("def") / "history.csv", "epoch\n")
    write_atomic(run.folder("def") / "weights.safetensors", b"of an attempt that was killed")
    run.write(cell("def", files=files))
    record = run.record("def")
    assert record is not None and record.files == files


def test_what_is_read_beside_a_record_is_what_was_recorded(run: RunDirectory) -> None:
    record = run.record("abc")
    assert record is not None
    assert run.recorded_file(record, "weights.safetensors").read_bytes() == b"123"
    (run.folder("abc") / "weights.safetensors").write_bytes(b"124")
    with pytest.raises(UserError, match=r"abc/weights\.safetensors: changed .* Delete .*abc and run"):
        run.recorded_file(record, "weights.safetensors")
    with pytest.raises(UserError, match=r"weights_best\.safetensors: missing"):
        run.recorded_file(record, "weights_best.safetensors")


def test_findings_name_the_cell_finished_or_not(run: RunDirectory) -> None:
    labels = {"teacher": "big", "student": "tiny", "method": "kd(alpha=0.5)", "seed": 3}
    own = {"teacher": "big", "student": None, "method": None, "seed": 1}
    write_manifest(run.path, teachers=["t"], cells=["abc", "def", "old"], labels={"def": labels, "t": own})
    (run.folder("abc") / "history.csv").unlink()
    assert [(finding.path, finding.what) for finding in check(run.path)] == [
        ("nodes/t", "teacher big, seed 1"),
        ("nodes/abc/history.csv", "small, kd, teacher big, seed 0"),
        ("nodes/def", "tiny, kd(alpha=0.5), teacher big, seed 3"),
        ("nodes/old", ""),
    ]


def test_what_rows_rest_on_is_checked_too(run: RunDirectory) -> None:
    write_manifest(run.path, supporting=["other", "assistant"])
    files = write_recorded(run.folder("other") / "predictions.safetensors", b"1")
    run.write(cell("other", role="teacher", student=None, method=None, files=files))
    (run.folder("other") / "predictions.safetensors").write_bytes(b"2")
    assert problems(run).keys() == {"nodes/assistant", "nodes/other/predictions.safetensors"}
    assert [record.id for record in run.supporting()] == ["other"]
    assert [record.id for record in run.records()] == ["abc"]


def test_chains_of_assistants_that_the_manifest_does_not_name_are_followed(run: RunDirectory) -> None:
    run.write(cell("abc", origin="t", taught_by="second"))
    run.write(cell("def", status="failed", taught_by="never"))
    write_manifest(run.path, teachers=["t"], cells=["abc", "def"])
    for id, tutor in {"t": None, "first": "t", "second": "first"}.items():
        files = write_recorded(run.folder(id) / "predictions.safetensors", b"1")
        role, origin = ("assistant", "t") if tutor else ("teacher", None)
        amendments = {} if tutor else {"independent": "other"}
        run.write(cell(id, role=role, origin=origin, taught_by=tutor, amendments=amendments, files=files))
    (run.folder("first") / "predictions.safetensors").write_bytes(b"2")
    assert {record.id for record in run.supporting()} == {"first", "second"}
    assert problems(run).keys() == {
        "nodes/first/predictions.safetensors",
        "nodes/other",
        "nodes/def",
    }


def test_cells_of_earlier_plans_are_told_listed_and_checked(run: RunDirectory) -> None:
    assert earlier_note(run.path) is None and not run.earlier()
    write_results(run)
    assert not (run.path / "results_earlier.csv").exists()
    recipe = {"recipe": {"epochs": 9}}
    run.write(cell("old", origin="before", config=recipe, metrics={"top1": 0.25, "gone": 1.0}))
    run.write(cell("lost", status="failed", reason="diverged", metrics={}))
    files = write_recorded(run.folder("before") / "a", "1")
    run.write(cell("before", role="teacher", student=None, method=None, files=files))
    assert [record.id for record in run.records()] == ["abc"] == list(load(run.path).id)
    assert [record.id for record in run.earlier()] == ["before", "lost", "old"]
    assert (earlier_note(run.path) or "").startswith("Not shown: 1 finished cell of earlier plans")
    write_results(run)
    table = pd.read_csv(run.path / "results_earlier.csv").set_index("id")
    assert table.loc["old", ["top1", "gone", "recipe"]].tolist() == [0.25, 1.0, '{"epochs":9}']
    assert problems(run) == {}, "they are no fault"
    (run.folder("before") / "a").write_text("2")
    assert problems(run).keys() == {"nodes/before/a"}
    write_manifest(run.path, teachers=["before"], cells=["abc", "old", "lost"])
    write_results(run)
    assert earlier_note(run.path) is None and not (run.path / "results_earlier.csv").exists()


def test_the_table_says_which_method_a_control_repeats(run: RunDirectory) -> None:
    write_manifest(run.path, cells=["abc", "def"])
    run.write(cell("def", method="kd (random teacher)", control_of="kd"))
    write_results(run)
    rows = pd.read_csv(run.path / "results.csv", keep_default_na=False).set_index("id")
    assert rows.control_of.to_dict() == {"abc": "", "def": "kd"}


def test_what_is_not_a_run_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run directory at"):
        RunDirectory.open(tmp_path / "nothing")
    with pytest.raises(UserError, match=r"holds no run\.json"):
        RunDirectory.open(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        RunDirectory.open(tmp_path).manifest()
