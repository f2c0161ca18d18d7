"""The harness of ``benchmarks/faults.py`` notices harm: every kind of it, made on purpose, is counted."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def _importable() -> Iterator[None]:
    """The folder ``benchmarks`` is no package: what lies in it is imported from it for these tests."""
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def kinds() -> Callable[..., list[str]]:
    """Return a function that gives the kinds of fault that are seen in the end of a command."""
    from harm.commands import Ended
    from harm.outcome import Outcome, judge_end

    def seen(
        status: int, error: str = "", output: str = "", over: str | None = None, statuses: Any = (2,)
    ) -> list[str]:
        outcome = Outcome("inputs", "inputs/x/y", "")
        judge_end(outcome, Ended(status, output, error, 0.1, over), "run", statuses)
        return [fault.kind for fault in outcome.faults]

    return seen


def test_the_end_of_a_command_is_judged(kinds: Callable[..., list[str]]) -> None:
    assert kinds(2, "error: suite.yaml:3: epochs: found 0; it is 1 or more.\n") == []
    assert kinds(1, "run: 1 finding\n", statuses=(0, 1, 2)) == []
    assert kinds(1, "Traceback (most recent call last):\n  File ...\nKeyError: 'x'\n") == ["tracebacks"]
    assert kinds(2, "error: KeyError: 'x'\n") == ["tracebacks"]
    assert kinds(0, over="still runs after 30 s") == ["hung"]
    assert kinds(0, output="all is well\n") == ["blessed"]
    assert kinds(2) == ["unclear"]
    assert kinds(-11, "error: the process crashed\n") == ["unclear"]
    assert kinds(2, "error: x\n" * 50) == ["unclear"]
    assert kinds(2, f"error: {'x' * 10_000}\n") == ["unclear"]
    assert kinds(2, "error: \x1b[2J\n") == ["unclear"]


def test_what_is_written_outside_is_seen(tmp_path: Path) -> None:
    from harm.surroundings import changes, make_victim, state

    victim = make_victim(tmp_path)
    (tmp_path / "work" / "run").mkdir(parents=True)
    (tmp_path / "work" / "link").symlink_to("run")
    before = state(tmp_path, ["work/run"])
    (tmp_path / "work" / "run" / "results.csv").write_text("x")
    assert changes(before, state(tmp_path, ["work/run"])) == []
    (victim / "x").write_text("y")
    (victim / "executed").touch()
    (victim / "results.csv").unlink()
    (tmp_path / "work" / "link").unlink()
    (tmp_path / "work" / "link").mkdir()
    assert set(changes(before, state(tmp_path, ["work/run"]))) == {
        "victim/x was changed",
        "victim/executed was written",
        "victim/results.csv was removed",
        "work/link was changed",
    }


def node(run: Path, id: str, started: str = "1", status: str = "ok") -> Path:
    folder = run / "nodes" / id
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights.safetensors").write_bytes(id.encode())
    content = {"status": status, "provenance": {"started": started, "finished": started}}
    (folder / "record.json").write_text(json.dumps(content))
    return folder


def test_cells_that_are_lost_or_made_again_are_counted(tmp_path: Path) -> None:
    from harm.finished import finished, harms

    for id in "abcdef":
        node(tmp_path, id)
    before = finished(tmp_path)
    assert list(harms(before, finished(tmp_path))) == []
    (tmp_path / "nodes" / "a" / "record.json").unlink()
    node(tmp_path, "b", started="2")
    (tmp_path / "nodes" / "c" / "record.json").write_text("[")
    (tmp_path / "nodes" / "d" / "weights.safetensors").write_bytes(b"other")
    node(tmp_path, "e", started="2")
    node(tmp_path, "f", status="failed")
    seen = list(harms(before, finished(tmp_path), remade=["nodes/e"]))
    assert sorted(kind for kind, _ in seen) == ["doubled", "doubled", "lost", "lost", "lost"]
    assert any("b: made at 2, was at 1" in text for _, text in seen)


def test_results_that_differ_in_one_bit_are_counted() -> None:
    from harm.finished import Results

    whole = Results({"a": {"top1": "0.1"}, "b": {"top1": "0.2"}}, {"nodes/a/weights.safetensors": "1"})
    assert whole.differences(whole) == []
    other = Results({"a": {"top1": "0.10000000000000002"}}, {"nodes/a/weights.safetensors": "2"})
    assert whole.differences(other) == [
        "b: no such row",
        "a: top1 is '0.10000000000000002', was '0.1'",
        "nodes/a/weights.safetensors: other content",
    ]


def test_files_that_only_a_run_in_progress_needs_are_seen(tmp_path: Path) -> None:
    from harm.finished import left_behind

    for name in ("cohorts/c.pt", ".results.csv.partial", ".scratch/x", "nodes/a/record.json", "results.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert left_behind(tmp_path) == [".results.csv.partial", ".scratch", ".scratch/x", "cohorts/c.pt"]


def test_a_process_that_does_not_end_is_stopped() -> None:
    from harm.commands import _watched

    child = os.fork()
    if child == 0:
        os.setsid()
        signal.pause()
        os._exit(0)
    assert _watched(child, time.monotonic(), 7.0)[1] == "still runs after 7 s"
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_every_way_of_damaging_changes_what_is_there(tmp_path: Path) -> None:
    from harm.surroundings import state
    from harm.ways import OF_FILES, OF_FOLDERS

    for name, way in {**{f"file-{key}": way for key, way in OF_FILES.items()}, **OF_FOLDERS}.items():
        case = tmp_path / name
        outside = case / "outside"
        outside.mkdir(parents=True)
        path = case / "run.json"
        if name.startswith("file-"):
            path.write_text(json.dumps({"a": [1, 2, 3]}, indent=1))
        else:
            path.mkdir()
        before = state(case, [])
        way(path, outside, random.Random(0))
        assert state(case, []) != before, name
        if name == "file-flip":
            assert path.read_text(errors="replace").split() != ["{", '"a":', "[", "1,", "2,", "3", "]", "}"]


def test_a_refusal_is_followed(tmp_path: Path) -> None:
    from harm.damage import advised

    run = tmp_path / "run"
    (run / "nodes" / "a").mkdir(parents=True)
    (run / "run.json").touch()
    assert (
        advised("error: run/run.json is damaged. Delete it and run the suite again.", tmp_path)
        == run / "run.json"
    )
    text = "error: run/nodes/a/x: changed. Delete run/nodes/a and run the suite again."
    assert advised(text, tmp_path) == run / "nodes" / "a"
    assert advised("error: cannot write run/run.json: Is a directory.", tmp_path) == run / "run.json"
    assert advised("error: cannot write run/nodes/b/x: File exists.", tmp_path) == run / "nodes"
    assert advised("error: run has changed.", tmp_path) is None
    assert advised("error: delete /etc/passwd and run again.", tmp_path) is None


def test_the_table_counts_by_group(tmp_path: Path) -> None:
    from harm.outcome import Fault, Outcome
    from harm.table import summary_lines, write_csv

    good = Outcome("inputs", "inputs/set/00", "plan --set x")
    bad = Outcome(
        "inputs", "inputs/set/01", "plan --set y", faults=[Fault("hung", "plan: /home/me/run | still")]
    )
    parts = {"inputs": [good, bad]}
    write_csv(buffer := io.StringIO(), parts)
    head, *lines = buffer.getvalue().splitlines()
    rows = [dict(zip(head.split(","), line.split(","), strict=True)) for line in lines]
    assert [row["what"] for row in rows] == ["inputs: set", "all inputs"]
    assert all(row["tried"] == "2" and row["hung"] == "1" and row["tracebacks"] == "0" for row in rows)
    text = "\n".join(summary_lines(parts))
    assert "hung: plan: …/run \\| still" in text and "--case 'inputs/set/01'" in text
    assert Outcome.of(json.loads(json.dumps(bad.as_json()))) == bad


def test_bad_inputs_are_many_and_each_has_its_name() -> None:
    from harm.inputs import cases

    trials = cases()  # which asserts that no name is twice there
    groups = {trial.group for trial in trials}
    assert len(trials) >= 300 and {"texts", "fields", "checkpoints", "datasets", "code", "links"} <= groups
