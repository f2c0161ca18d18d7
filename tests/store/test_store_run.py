"""The run directory: records and their amendments, what a check finds, cells of earlier plans."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kdbench.errors import UserError
from kdbench.store import (
    RunDirectory,
    check,
    earlier_note,
    load,
    write_atomic,
    write_json,
    write_recorded,
    write_results,
)


def cell(id: str, **fields: Any) -> dict[str, Any]:
    known = {
        "id": id,
        "role": "student",
        "status": "ok",
        "reason": None,
        "teacher": "big",
        "student": "small",
        "method": "kd",
        "control_of": None,
        "seed": 0,
        "metrics": {"top1": 0.5},
        "config": {"teacher": "t", "recipe": {"epochs": 2}},
    }
    return known | fields


def write_manifest(path: Path, **fields: Any) -> None:
    known = {"suite": "s", "teachers": [], "cells": ["abc"]}
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
    files |= write_recorded(folder / "student.safetensors", b"123")
    run.write_record("cells", cell("abc"), files)
    return run


def problems(run: RunDirectory, **options: Any) -> dict[str, str]:
    return {finding.path: finding.problem for finding in check(run.path, **options)}


def test_check_finds_what_is_missing_changed_and_failed(run: RunDirectory) -> None:
    write_manifest(run.path, cells=["abc", "def"])
    assert problems(run) == {"cells/def": "not finished: it has no record.json"}
    run.write_record("cells", cell("def", status="failed", reason="diverged", metrics={}), {})
    assert problems(run) == {"cells/def": "failed: diverged"}
    (run.folder("abc") / "history.csv").write_text("epoch\n2\n")
    assert "checksum differs" in problems(run)["cells/abc/history.csv"]
    write_atomic(run.folder("abc") / "history.csv", "epoch\n1\n")
    (run.folder("abc") / "student.safetensors").unlink()
    assert "missing" in problems(run)["cells/abc/student.safetensors"]
    assert problems(run, records_only=True) == {"cells/def": "failed: diverged"}


def test_an_amendment_gives_no_checksum_to_damage(run: RunDirectory) -> None:
    folder = run.folder("abc")
    (folder / "student.safetensors").write_bytes(b"124")
    (folder / "history.csv").unlink()
    (folder / "stray.txt").write_text("x")
    before = run.record("abc")
    assert before is not None
    run.amend(before, {"metrics": {"top1": 0.75}})
    assert run.record("abc") == before | {"metrics": {"top1": 0.75}}
    assert problems(run).keys() == {"cells/abc/student.safetensors", "cells/abc/history.csv"}


def test_an_amendment_vouches_for_what_was_written_for_it(run: RunDirectory) -> None:
    before = run.record("abc")
    assert before is not None
    run.amend(before, {}, write_recorded(run.folder("abc") / "history.csv", "epoch\n1\n2\n"))
    assert problems(run) == {}
    after = run.record("abc")
    assert after is not None and after["files"]["history.csv"]["bytes"] == 10
    assert after["files"]["student.safetensors"] == before["files"]["student.safetensors"]


def test_a_new_record_lists_only_what_its_writer_wrote(run: RunDirectory) -> None:
    files = write_recorded(run.folder("def") / "history.csv", "epoch\n")
    write_atomic(run.folder("def") / "student.safetensors", b"of an attempt that was killed")
    run.write_record("cells", cell("def"), files)
    record = run.record("def")
    assert record is not None and record["files"] == files


def test_what_is_read_beside_a_record_is_what_was_recorded(run: RunDirectory) -> None:
    record = run.record("abc")
    assert record is not None
    assert run.recorded_file(record, "student.safetensors").read_bytes() == b"123"
    (run.folder("abc") / "student.safetensors").write_bytes(b"124")
    with pytest.raises(UserError, match=r"abc/student\.safetensors: changed .* Delete .*abc and run"):
        run.recorded_file(record, "student.safetensors")
    with pytest.raises(UserError, match=r"student_best\.safetensors: missing"):
        run.recorded_file(record, "student_best.safetensors")


def test_findings_name_the_cell_finished_or_not(run: RunDirectory) -> None:
    labels = {"teacher": "big", "student": "tiny", "method": "kd(alpha=0.5)", "seed": 3}
    own = {"teacher": "big", "student": None, "method": None, "seed": 1}
    write_manifest(run.path, teachers=["t"], cells=["abc", "def", "old"], labels={"def": labels, "t": own})
    (run.folder("abc") / "history.csv").unlink()
    assert [(finding.path, finding.what) for finding in check(run.path)] == [
        ("teachers/t", "teacher big, seed 1"),
        ("cells/abc/history.csv", "small, kd, teacher big, seed 0"),
        ("cells/def", "tiny, kd(alpha=0.5), teacher big, seed 3"),
        ("cells/old", ""),
    ]


def test_what_rows_rest_on_is_checked_too(run: RunDirectory) -> None:
    write_manifest(run.path, supporting=["other", "assistant"])
    files = write_recorded(run.folder("other") / "predictions.safetensors", b"1")
    run.write_record("teachers", cell("other", role="teacher", student=None, method=None), files)
    (run.folder("other") / "predictions.safetensors").write_bytes(b"2")
    assert problems(run).keys() == {"teachers/assistant", "teachers/other/predictions.safetensors"}
    assert [record["id"] for record in run.supporting()] == ["other"]
    assert [record["id"] for record in run.records()] == ["abc"]


def test_chains_of_assistants_that_the_manifest_does_not_name_are_followed(run: RunDirectory) -> None:
    run.write_record("cells", cell("abc", config={"teacher": "t", "tutor": "second"}), {})
    run.write_record("cells", cell("def", status="failed", config={"teacher": "t", "tutor": "never"}), {})
    write_manifest(run.path, teachers=["t"], cells=["abc", "def"])
    for id, config in {"t": {}, "first": {"teacher": "t"}, "second": {"teacher": "first"}}.items():
        files = write_recorded(run.folder(id) / "predictions.safetensors", b"1")
        role = "assistant" if config else "teacher"
        other = "other" if id == "t" else None
        run.write_record("teachers", cell(id, role=role, config=config, independent_teacher=other), files)
    (run.folder("first") / "predictions.safetensors").write_bytes(b"2")
    assert {record["id"] for record in run.supporting()} == {"first", "second"}
    assert problems(run).keys() == {
        "teachers/first/predictions.safetensors",
        "teachers/other",
        "cells/def",
    }


def test_cells_of_earlier_plans_are_told_listed_and_checked(run: RunDirectory) -> None:
    assert earlier_note(run.path) is None and not run.earlier()
    write_results(run)
    assert not (run.path / "results_earlier.csv").exists()
    recipe = {"teacher": "before", "recipe": {"epochs": 9}}
    run.write_record("cells", cell("old", config=recipe, metrics={"top1": 0.25, "gone": 1.0}), {})
    run.write_record("cells", cell("lost", status="failed", reason="diverged", metrics={}), {})
    teacher = cell("before", role="teacher", student=None, method=None)
    run.write_record("teachers", teacher, write_recorded(run.folder("before") / "a", "1"))
    assert [record["id"] for record in run.records()] == ["abc"] == list(load(run.path).id)
    assert [record["id"] for record in run.earlier()] == ["before", "lost", "old"]
    assert (earlier_note(run.path) or "").startswith("Not shown: 1 finished cell of earlier plans")
    write_results(run)
    table = pd.read_csv(run.path / "results_earlier.csv").set_index("id")
    assert table.loc["old", ["top1", "gone", "recipe"]].tolist() == [0.25, 1.0, '{"epochs":9}']
    assert problems(run) == {}, "they are no fault"
    (run.folder("before") / "a").write_text("2")
    assert problems(run).keys() == {"teachers/before/a"}
    write_manifest(run.path, teachers=["before"], cells=["abc", "old", "lost"])
    write_results(run)
    assert earlier_note(run.path) is None and not (run.path / "results_earlier.csv").exists()


def test_the_table_says_which_method_a_control_repeats(run: RunDirectory) -> None:
    write_manifest(run.path, cells=["abc", "def"])
    run.write_record("cells", cell("def", method="kd (random teacher)", control_of="kd"), {})
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
