"""Cohorts in several processes, and cohorts that do not fit into memory: the results stay the same."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from kdbench.errors import UserError
from kdbench.progress import Progress
from kdbench.runner import run
from kdbench.store import RunDirectory, check
from kdbench.suite import Suite

Load = Callable[..., Suite]
CHANGING = ("train_seconds", "train_time_share", "cohort_peak_bytes")


class Listening(Progress):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.stages: list[tuple[str, int]] = []
        self.done: list[int] = []

    def begin(self, label: str, total: int, unit: str) -> None:
        self.stages.append((label, total))

    def advance(self, done: int, detail: str = "") -> None:
        self.done.append(done)

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(autouse=True)
def _own_measuring_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let these processes not wait for what else measures on this machine."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def results(path: Path) -> dict[str, dict[str, float | None]]:
    return {
        record["id"]: {name: value for name, value in record["metrics"].items() if name not in CHANGING}
        for record in RunDirectory.open(path).records()
    }


def test_two_processes_give_what_one_gives(small_suite: Load, tmp_path: Path) -> None:
    # One thread everywhere: sums of several threads may differ in their last bits.
    suite = small_suite("threads=1")
    run(suite, tmp_path / "one", teacher_store=tmp_path)
    heard = Listening()
    outcome = run(suite, tmp_path / "two", teacher_store=tmp_path, jobs=2, progress=heard)
    assert outcome.ok == 8
    assert check(outcome.path) == []
    assert results(tmp_path / "two") == results(tmp_path / "one")
    assert ("2 cohorts in 2 processes", 4) in heard.stages
    assert heard.done[-1] == 4
    assert sum("top-1" in note for note in heard.notes) == 1  # the teacher is told of once


def test_a_killed_process_ends_the_run_and_the_next_one_goes_on(small_suite: Load, tmp_path: Path) -> None:
    class Killing(Listening):
        def advance(self, done: int, detail: str = "") -> None:
            super().advance(done, detail)
            if self.stages[-1][0].endswith("processes"):
                for process in multiprocessing.active_children():
                    os.kill(process.pid or 0, signal.SIGKILL)

    suite = small_suite("threads=1", "recipe.epochs=3")
    with pytest.raises(UserError, match=r"killed by signal 9.*same command again, with fewer --jobs"):
        run(suite, tmp_path / "run", teacher_store=tmp_path, jobs=2, progress=Killing())
    assert not multiprocessing.active_children()
    assert run(suite, tmp_path / "run", teacher_store=tmp_path).ok == 8


def test_a_cohort_over_the_memory_budget_is_split_and_nothing_changes(
    small_suite: Load, tmp_path: Path
) -> None:
    suite = small_suite("seeds=[0]")
    run(suite, tmp_path / "together", teacher_store=tmp_path)
    heard = Listening()
    run(suite, tmp_path / "split", teacher_store=tmp_path, memory_budget=1, progress=heard)
    assert [total for label, total in heard.stages if label == "1 students"] == [2] * 4
    assert sum("do not fit into the memory budget" in note for note in heard.notes) == 3
    assert results(tmp_path / "split") == results(tmp_path / "together")
