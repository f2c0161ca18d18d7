"""Works in several processes: the results stay the same, and whatever ends a process ends the run."""

from __future__ import annotations

import gc
import multiprocessing
import os
import queue
import signal
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from kdbench.errors import UserError
from kdbench.plan import make_plan
from kdbench.plan.code import user_files
from kdbench.runner import run
from kdbench.runner.events import Event, Follower
from kdbench.runner.executors import processes
from kdbench.runner.session import Session
from kdbench.runner.works import Site, Work
from kdbench.runner.workshop import Setting
from kdbench.store import check
from kdbench.suite import Suite
from tests.runner.observed import Listening, results, write_net

Load = Callable[..., Suite]
WORKS = {"first": ("cnn_4, seed 0", 2), "second": ("cnn_4, seed 1", 2)}


@pytest.fixture(autouse=True)
def _own_measuring_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let these processes not wait for what else measures on this machine."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))


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
    assert 4 in heard.done
    assert sum("Top-1" in note for note in heard.notes) == 1  # the teacher is told of once


def test_a_killed_process_ends_the_run_and_the_next_one_goes_on(small_suite: Load, tmp_path: Path) -> None:
    class Killing(Listening):
        def advance(self, done: float, detail: str = "") -> None:
            super().advance(done, detail)
            if self.stages[-1][0].endswith("processes"):
                for process in multiprocessing.active_children():
                    os.kill(process.pid or 0, signal.SIGKILL)

    suite = small_suite("threads=1", "recipe.epochs=3")
    with pytest.raises(UserError, match=r"killed by signal 9.*same command again, with fewer --jobs"):
        run(suite, tmp_path / "run", teacher_store=tmp_path, jobs=2, progress=Killing())
    assert not multiprocessing.active_children()
    assert run(suite, tmp_path / "run", teacher_store=tmp_path).ok == 8


def test_an_edited_file_is_noticed_by_the_process_that_plans_anew(
    small_suite: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *arguments: None)  # this process is to hear interrupts
    suite = small_suite(write_net(tmp_path), "methods=[scratch]")
    plan = make_plan(suite)
    setting = Setting(tmp_path / "run", tmp_path, None, torch.device("cpu"), 10**9)
    ids = frozenset(cell.id for cell in plan.cells)
    site = Site(suite, setting, torch.get_num_threads(), ids, user_files(plan))
    work = Work("first", "cnn_4, seed 0", tuple(ids), 2, site)
    (tmp_path / "width.py").write_text("WIDTH = 5\n")
    tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for task in (work.id, None):
        tasks.put(task)
    events: queue.SimpleQueue[Any] = queue.SimpleQueue()
    processes.carry_out({work.id: work}, tasks, events)
    kind, text = events.get()
    assert kind == "refused" and "\n" not in text
    assert text.startswith(
        f"{tmp_path}/net.py:build, or code that it imports, was edited while the run was going on"
    )
    assert events.empty() and not (tmp_path / "run").exists() and not (tmp_path / "nodes").exists()


def ended(code: int | None, pid: int) -> Any:
    return SimpleNamespace(exitcode=code, pid=pid)


def follow(workers: Sequence[Any], told: Sequence[Any]) -> Listening:
    events: queue.Queue[Any] = queue.Queue()
    for event in told:
        events.put(event)
    heard = Listening()
    follower = Follower(WORKS, heard)
    follower.tell(Event("begin", "", len(workers)))
    works: Any = WORKS
    processes.follow(works, workers, events, follower.tell)
    return heard


@pytest.mark.parametrize(
    ("workers", "how"),
    [
        ([(0, 1), (None, 2)], "ended with status 0 before its work was done"),
        ([(None, 1), (3, 2)], "ended with status 3"),
        ([(-9, 1), (0, 2)], "was killed by signal 9"),
    ],
)
def test_a_process_that_ends_before_its_work_is_done_ends_the_run(
    workers: list[tuple[int | None, int]], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "LOOK_S", 0.001)
    with pytest.raises(UserError, match=f"a training process {how}"):
        # The other process has told that it is done, and one work is left.
        follow([ended(*worker) for worker in workers], [Event("done", "second"), ("finished", 2)])


def test_a_process_that_told_that_nothing_is_left_may_end() -> None:
    told = [("finished", 1), *(Event("done", id) for id in WORKS)]
    assert follow([ended(0, 1), ended(None, 2)], told).done[-1] == 4


def test_the_processes_share_the_memory_and_the_first_one_keeps_none(
    small_suite: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[weakref.ref[Any]] = []
    budgets: list[int] = []
    build, share = Session.build, Site.shared_by

    class Enough(Exception):
        pass

    def watched(self: Session, entry: Any) -> Any:
        model = build(self, entry)
        kept.extend((weakref.ref(model), weakref.ref(self.data)))
        return model

    def shared_by(self: Site, jobs: int, threads: int) -> Site:
        gc.collect()
        assert kept and all(reference() is None for reference in kept)
        budgets.extend(share(self, count, threads).setting.memory_budget for count in (1, 3))
        raise Enough

    monkeypatch.setattr(Session, "build", watched)
    monkeypatch.setattr(Site, "shared_by", shared_by)
    with pytest.raises(Enough):
        run(small_suite("teachers.0.recipe.epochs=1"), tmp_path / "run", jobs=3, memory_budget=10**8)
    assert budgets == [10**8, 10**8 // 3]
