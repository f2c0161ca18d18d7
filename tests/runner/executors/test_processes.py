"""Cohorts in several processes, and cohorts that do not fit into memory: the results stay the same."""

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
from kdbench.plan import Cohort, make_plan
from kdbench.plan.code import user_files
from kdbench.progress import Progress
from kdbench.runner import execution, processes, run
from kdbench.runner.amendments.costs import measure_costs
from kdbench.runner.trainer import Setting, Trainer
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


def test_an_edited_file_is_noticed_by_the_process_that_plans_anew(
    small_suite: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *arguments: None)  # this process is to hear interrupts
    (tmp_path / "width.py").write_text("WIDTH = 4\n")
    (tmp_path / "net.py").write_text(NET)
    suite = small_suite(f"students=[{{name: '{tmp_path}/net.py:build', label: net}}]", "methods=[scratch]")
    plan = make_plan(suite)
    setting = Setting(tmp_path / "run", tmp_path, None, torch.device("cpu"), 10**9)
    ids = frozenset(cell.id for cell in plan.cells)
    work = processes.Work(suite, setting, torch.get_num_threads(), ids, user_files(plan))
    (tmp_path / "width.py").write_text("WIDTH = 5\n")
    tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for task in (plan.cohorts[0].id, None):
        tasks.put(task)
    events: queue.SimpleQueue[Any] = queue.SimpleQueue()
    processes._work(work, tasks, events)
    kind, _, text = events.get()
    assert kind == "refused" and "\n" not in text
    assert text.startswith(
        f"{tmp_path}/net.py:build, or code that it imports, was edited while the run was going on"
    )
    assert events.empty() and not (tmp_path / "run").exists() and not (tmp_path / "teachers").exists()


def test_a_file_that_is_edited_between_cohorts_ends_the_run_and_nothing_of_it_is_recorded(
    small_suite: Load, tmp_path: Path
) -> None:
    (tmp_path / "width.py").write_text("WIDTH = 4\n")
    (tmp_path / "net.py").write_text(NET)
    net = f"students=[{{name: '{tmp_path}/net.py:build', label: net}}]"
    plan = make_plan(small_suite(net, "methods=[scratch]", "teachers.0.recipe.epochs=1"))
    setting = Setting(tmp_path / "run", tmp_path, None, torch.device("cpu"), 10**9)
    trainer = Trainer(plan, setting, Progress())
    costs: Any = SimpleNamespace(id=lambda teacher: "none", add_to=lambda *arguments: None)
    trainer.train(plan.cohorts[0], costs)
    (tmp_path / "width.py").write_text("WIDTH = 5\n")
    with pytest.raises(UserError, match=r"net\.py:build, .* was edited .* Run the same command again"):
        trainer.train(plan.cohorts[1], costs)
    assert [cell.id for cell in trainer.waiting()] == [plan.cells[1].id]
    assert not {cell.id for cell in plan.cells} & {cell.id for cell in make_plan(plan.suite).cells}


def test_costs_of_a_file_that_is_edited_while_it_is_measured_are_not_recorded(
    small_suite: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "width.py").write_text("WIDTH = 4\n")
    (tmp_path / "net.py").write_text(NET)
    plan = make_plan(small_suite(f"students=[{{name: '{tmp_path}/net.py:build', label: net}}]"))
    monkeypatch.setattr(
        "kdbench.runner.amendments.costs.measure", lambda *jobs, **more: (tmp_path / "width.py").write_text("WIDTH = 5")
    )
    with pytest.raises(UserError, match="was edited while the run was going on"):
        measure_costs(plan, RunDirectory(tmp_path / "run"), Progress())
    assert not (tmp_path / "run").exists()


NET = """
from torch import nn
def build(input_shape, num_classes):
    import width
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width.WIDTH), nn.ReLU(),
                         nn.Linear(width.WIDTH, num_classes))
"""


def ended(code: int | None, pid: int) -> Any:
    return SimpleNamespace(exitcode=code, pid=pid)


def follow(cohorts: Sequence[Cohort], workers: Sequence[Any], told: Sequence[Any]) -> Listening:
    events: queue.Queue[Any] = queue.Queue()
    for event in told:
        events.put(event)
    heard = Listening()
    processes._follow(cohorts, workers, events, heard)
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
    workers: list[tuple[int | None, int]],
    how: str,
    small_suite: Load,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processes, "LOOK_S", 0.001)
    cohorts = make_plan(small_suite()).cohorts
    with pytest.raises(UserError, match=f"a training process {how}"):
        # The other process has told that it is done, and one cohort is left.
        follow(
            cohorts,
            [ended(*worker) for worker in workers],
            [("done", cohorts[1].id, None), ("finished", 2, None)],
        )


def test_a_process_that_told_that_nothing_is_left_may_end(small_suite: Load) -> None:
    cohorts = make_plan(small_suite()).cohorts
    told = [("finished", 1, None), *(("done", cohort.id, None) for cohort in cohorts)]
    assert follow(cohorts, [ended(0, 1), ended(None, 2)], told).done[-1] == 4


def test_only_the_epochs_of_its_students_move_a_cohort_on(small_suite: Load) -> None:
    cohort = make_plan(small_suite("seeds=[0]", "recipe.epochs=4")).cohorts[0]
    events: queue.SimpleQueue[Any] = queue.SimpleQueue()
    relay = processes._Relay(events)  # type: ignore[arg-type]
    relay.turn_to(cohort)

    def stage(label: str, epochs: Sequence[int], part: tuple[int, int] | None = None) -> list[Any]:
        if part:
            relay.part(*part)
        relay.begin(label, 4, "epoch")
        for epoch in epochs:
            relay.advance(epoch)
        relay.end()
        return [events.get()[::2] for _ in range(events.qsize())]

    assert stage("teacher cnn_2", [1, 2, 30]) == [("stage", "teacher cnn_2")]
    # Three of four students at once, then the fourth: four epochs in all, and never back.
    first = stage("3 students", [1, 2, 3, 4], part=(3, 4))
    assert first == [("stage", "3 students"), *(("epoch", done) for done in (0, 1, 2, 3))]
    assert stage("evaluating 3 models", [1, 20]) == [("stage", "evaluating 3 models")]
    assert [done for _, done in stage("1 students", [1, 2, 3, 4], part=(1, 4))[1:]] == [3, 3, 3, 4]


def test_the_processes_share_the_memory_and_the_first_one_keeps_none(
    small_suite: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[weakref.ref[Any]] = []
    budgets: list[int] = []
    read = Trainer.teacher

    class Enough(Exception):
        pass

    def teacher(self: Trainer, plan: Any) -> Any:
        found = read(self, plan)
        kept.extend((weakref.ref(found.model), weakref.ref(self.session.data)))
        return found

    def train(plan: Any, setting: Setting, *arguments: Any) -> None:
        gc.collect()
        assert kept and all(reference() is None for reference in kept)
        budgets.extend(setting.shared_by(count).memory_budget for count in (1, 3))
        raise Enough

    monkeypatch.setattr(Trainer, "teacher", teacher)
    monkeypatch.setattr(execution, "measure_costs", lambda *arguments: None)
    monkeypatch.setattr(execution, "train_in_processes", train)
    with pytest.raises(Enough):
        run(small_suite("teachers.0.recipe.epochs=1"), tmp_path / "run", jobs=3, memory_budget=10**8)
    assert budgets == [10**8, 10**8 // 3]


@pytest.mark.parametrize("failing", [False, True])
def test_a_run_leaves_the_threads_of_its_caller_as_they_were(
    failing: bool, small_suite: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def carry_out(self: Any, *arguments: Any) -> str:
        seen.append(torch.get_num_threads())
        if failing:
            raise UserError("no")
        return "done"

    monkeypatch.setattr(execution._Run, "carry_out", carry_out)
    before = torch.get_num_threads()
    try:
        run(small_suite(f"threads={before + 1}"), tmp_path / "run")
    except UserError:
        assert failing
    assert seen == [before + 1] and torch.get_num_threads() == before
