"""A user's own code compared with what the records of a run were made with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from kdbench.cli import app
from kdbench.code.at_hand import compare_code
from kdbench.code.factory import factory_fingerprint
from kdbench.errors import UserError
from kdbench.store import Record, RunDirectory, write_json


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose student, method and data are of the user's own files; the student's imports a helper."""
    own = tmp_path / "own"
    own.mkdir()
    (own / "helper.py").write_text("WIDTH = 4\n")
    (own / "net.py").write_text("from helper import WIDTH\n\ndef net(): return WIDTH\n")
    (own / "method.py").write_text("class Mine: pass\n")
    (own / "data.py").write_text("def make(): pass\n")
    source = {name: factory_fingerprint(f"{own}/{name}") for name in ("net.py:net", "method.py:Mine")}
    config: dict[str, Any] = {
        "dataset": {"name": "data.py:make", "source": factory_fingerprint(f"{own}/data.py:make")},
        "student": {"name": "net.py:net", "source": source["net.py:net"]},
        "method": {"name": "mine"},
        "method_source": source["method.py:Mine"],
    }
    path = tmp_path / "run"
    RunDirectory(path).write(
        Record("c1", "student", "ok", "t", 0, student="s", method="m", metrics={"top1": 0.5}, config=config)
    )
    manifest = {"suite": "own", "dataset": "d", "sizes": {}, "teachers": [], "cells": ["c1"]}
    write_json(path / "run.json", manifest)
    top1 = {"name": "top1", "title": "t", "family": "task", "direction": "higher"}
    write_json(path / "columns.json", [top1])
    (path / "suite.yaml").write_text(f"paths_from: {own}\nmethods: [scratch, {{name: 'method.py:Mine'}}]\n")
    return path


def faults(run: Path) -> list[str | None]:
    return [comparison.fault for comparison in compare_code(RunDirectory(run), run.parent / "own")]


@pytest.mark.parametrize(
    ("file", "what"),
    [
        ("helper.py", "model 'net.py:net'"),
        ("method.py", "method 'mine'"),
        ("data.py", "dataset 'data.py:make'"),
    ],
)
def test_code_that_has_changed_is_a_finding_and_restored_it_is_none(run: Path, file: str, what: str) -> None:
    assert faults(run) == [None] * 3
    edited = run.parent / "own" / file
    before = edited.read_text()
    edited.write_text(f"{before}\n# edited\n")
    (fault,) = filter(None, faults(run))
    assert fault.startswith(f"the code of {what}, or code that it imports, has changed since")
    assert "(nodes/c1)" in fault
    edited.write_text(before)
    assert faults(run) == [None] * 3


def test_check_tells_of_changed_code_and_of_code_that_is_not_at_hand(run: Path) -> None:
    (run.parent / "own" / "method.py").unlink()
    result = CliRunner().invoke(app, ["check", str(run)])
    assert result.exit_code == 0
    assert "the code of model 'net.py:net' is what it was" in result.output
    assert "not compared with the code of method 'mine': there is no file" in result.output
    (run.parent / "own" / "helper.py").write_text("WIDTH = 8\n")
    result = CliRunner().invoke(app, ["check", str(run)])
    assert result.exit_code == 1
    assert "the code of model 'net.py:net', or code that it imports, has changed since" in result.output


def test_the_code_of_a_link_is_compared_too(run: Path) -> None:
    own = run.parent / "own"
    chain = "{chain: [{name: kd}, {name: 'method.py:Mine'}], label: both}"
    (run / "suite.yaml").write_text(f"paths_from: {own}\nmethods: [scratch, {chain}]\n")
    assert faults(run) == [None] * 3
    (own / "method.py").write_text("class Mine: pass  # edited\n")
    (fault,) = filter(None, faults(run))
    assert fault.startswith("the code of method 'mine'")


@pytest.mark.parametrize("text", ["", "[]", "3", "methods: 3", "methods: [3, [], {chain: 3}, {name: 4}]"])
def test_a_suite_of_anybodys_is_read_or_refused(run: Path, text: str) -> None:
    (run / "suite.yaml").write_text(text)
    result = CliRunner().invoke(app, ["check", str(run)])
    assert result.exception is None or isinstance(result.exception, SystemExit | UserError)
