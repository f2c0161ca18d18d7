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

from kdbench.code.foreign import Note
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
    with pytest.raises(UserError, match=r"killed by SIGKILL.*same command again, with fewer --jobs"):
        run(suite, tmp_path / "run", teacher_store=tmp_path, jobs=2, progress=Killing())
    assert not multiprocessing.active_children()
    assert run(suite, tmp_path / "run", teacher_store=tmp_path).ok == 8


def test_an_edited_file_is_noticed_by_the_process_that_plans_anew(
    small_suite: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    heard, told = multiprocessing.Pipe(duplex=False)
    processes.carry_out({work.id: work}, tasks, told)
    kind, text = heard.recv()
    assert kind == "refused" and "\n" not in text
    assert text.startswith(
        f"{tmp_path}/net.py:build, or code that it imports, was edited while the run was going on"
    )
    assert not heard.poll() and not (tmp_path / "run").exists() and not (tmp_path / "nodes").exists()


def worker(told: Sequence[Any], exitcode: int | None = None, code: str = "", rest: bytes = b"") -> Any:
    """Return a process that told all this, ``rest`` last, and ended where it has an exit code."""
    heard, teller = multiprocessing.Pipe(duplex=False)
    for event in told:
        teller.send(event)
    os.write(teller.fileno(), rest)
    if exitcode is not None:
        teller.close()
    note = Note(bytearray(Note.SIZE))
    note.write(code, 0)
    process = SimpleNamespace(exitcode=exitcode, join=lambda timeout: None, teller=teller)
    return processes.Worker(process, heard, note)  # type: ignore[arg-type]


def follow(*workers: Any) -> Listening:
    heard = Listening()
    follower = Follower(WORKS, heard)
    follower.tell(Event("begin", "", len(workers)))
    works: Any = WORKS
    processes.follow(works, workers, follower.tell)
    return heard


FINISHED = ("finished", None)


@pytest.mark.parametrize(
    ("exitcode", "code", "rest", "text"),
    [
        (0, "", b"", "a training process ended with status 0 before its work was done"),
        (3, "", b"", "a training process ended with status 3 before"),
        (-9, "", b"", "a training process was killed by SIGKILL, often a sign of too little memory"),
        (0, "KD training Net", b"", r"KD training Net ended the process with status 0 \(os\._exit\?\)"),
        # The length of what follows, and half of it: it ended in the middle of a word.
        (-11, "KD training Net", b"\0\0\0\x40half", r"KD training Net crashed the process \(SIGSEGV\)"),
    ],
)
def test_a_process_that_ends_before_its_work_is_done_ends_the_run(
    exitcode: int, code: str, rest: bytes, text: str
) -> None:
    # The other process has told that it is done, and one work is left.
    others = [worker([Event("done", "second"), FINISHED]), worker([])]
    with pytest.raises(UserError, match=f"^{text}"):
        follow(worker([], exitcode, code, rest), *others)


def test_a_process_whose_pipe_another_one_holds_open_is_seen_to_have_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processes, "LOOK_S", 0.001)
    silent = worker([Event("done", "first")])
    silent.process.exitcode = 0
    with pytest.raises(UserError, match="ended with status 0 before its work was done"):
        follow(silent)


def test_code_that_hangs_in_a_process_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LOOK_S", 0.001)
    hanging = worker([])
    hanging.note.write("model 'net.py:make'", 0.01)
    with pytest.raises(UserError, match=r"^model 'net.py:make' took more than 0.01 s .* --code-timeout"):
        follow(hanging)


def test_processes_that_leave_a_work_undone_are_not_waited_for() -> None:
    with pytest.raises(RuntimeError, match="no process carried out second"):
        follow(worker([Event("done", "first"), FINISHED], 0), worker([FINISHED], 0))


def test_a_process_that_told_that_nothing_is_left_may_end() -> None:
    told = [*(Event("done", id) for id in WORKS)]
    assert follow(worker([FINISHED], 0), worker(told)).done[-1] == 4


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
