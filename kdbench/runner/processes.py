"""Cohorts trained in several processes at once.

Each process takes the next cohort as soon as it is free. What comes out does not depend on the process,
only, in its last bits, on the number of threads. Nothing is measured meanwhile: the run's own costs are
measured before, and a process waits where another run holds the machine's measuring lock.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import queue
import signal
import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.context import SpawnProcess
from typing import Any

import torch

from kdbench import machine
from kdbench.errors import UserError
from kdbench.plan import Cohort, Plan, make_plan
from kdbench.plan.code import refuse_other_plan, user_files
from kdbench.progress import Progress
from kdbench.runner.costs import measure_costs
from kdbench.runner.trainer import Setting, Trainer
from kdbench.suite import Suite

# How long a process waits for another run's measurement to end.
PATIENCE_S = 3600.0
# How often it is looked whether a process died.
LOOK_S = 1.0
# Shares of epochs that add up to a whole one may lack this.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Work:
    """What every process is given: the suite, which it plans anew, and what the plan must come to."""

    suite: Suite
    setting: Setting
    threads: int
    cells: frozenset[str]
    files: dict[str, str]


def train_in_processes(
    plan: Plan, setting: Setting, cohorts: Sequence[Cohort], jobs: int, progress: Progress
) -> None:
    """Train cohorts in ``jobs`` processes that share the threads of this one and the memory of the setting.

    Raises:
        UserError: what a process raised; or that one was killed or ended by itself, or that a user's file was
            edited, so that its plan is another. The others are then stopped; what they trained is kept up to
            the last epoch.
    """
    context = multiprocessing.get_context("spawn")
    tasks, events = context.SimpleQueue(), context.Queue()
    for cohort in cohorts:
        tasks.put(cohort.id)
    jobs = min(jobs, len(cohorts))
    work = Work(
        plan.suite,
        setting.shared_by(jobs),
        plan.suite.threads or max(1, torch.get_num_threads() // jobs),
        frozenset(cell.id for cell in plan.cells),
        user_files(plan),
    )
    processes: list[SpawnProcess] = []
    try:
        for _ in range(jobs):
            tasks.put(None)
            processes.append(context.Process(target=_work, args=(work, tasks, events)))
            processes[-1].start()
        _follow(cohorts, processes, events, progress)
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _follow(
    cohorts: Sequence[Cohort], processes: Sequence[SpawnProcess], events: Any, progress: Progress
) -> None:
    """Tell what the processes tell, until all cohorts are done."""
    epochs = {cohort.id: cohort.recipe.epochs for cohort in cohorts}
    labels = {cohort.id: cohort.label for cohort in cohorts}
    done = dict.fromkeys(epochs, 0)
    progress.begin(f"{len(cohorts)} cohorts in {len(processes)} processes", sum(epochs.values()), "epoch")
    left = set(epochs)
    finished: set[int] = set()
    while left:
        # Looked at before the events: what a process told before it ended is read first.
        ended = [process for process in processes if process.exitcode is not None]
        try:
            kind, source, content = events.get(timeout=LOOK_S)
        except queue.Empty:
            _refuse_early_ends(ended, finished)
            continue
        if kind == "done":
            left.remove(source)
            done[source] = epochs[source]
            progress.advance(sum(done.values()))
        elif kind == "epoch":
            done[source] = content
            progress.advance(sum(done.values()))
        elif kind == "stage":
            progress.advance(sum(done.values()), f"{labels[source]}: {content}")
        elif kind == "finished":
            finished.add(source)
        elif kind == "note":
            progress.note(content)
        elif kind == "warning":
            progress.warn(content)
        elif kind == "refused":
            raise UserError(content)
        else:
            raise RuntimeError(f"a training process failed:\n{content}")
    progress.end()


def _refuse_early_ends(ended: Sequence[SpawnProcess], finished: set[int]) -> None:
    """Raise UserError for a process that ended before it told that there is nothing left to do."""
    for process in ended:
        code = process.exitcode or 0
        how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        if code:
            raise UserError(
                f"a training process {how} (out of memory?): run the same command again, with fewer --jobs."
            )
        if process.pid not in finished:
            raise UserError(
                f"a training process {how} before its work was done: see that no code of the suite ends its "
                "process (os._exit), then run the same command again."
            )


def _work(work: Work, tasks: Any, events: Any) -> None:
    """Train cohorts until there are no more; what a process runs."""
    # An interrupt reaches every process of a terminal; the first one stops the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    torch.set_num_threads(work.threads)
    relay = _Relay(events)
    try:
        plan = make_plan(work.suite, work.setting.data_root)
        refuse_other_plan(plan, work.cells, work.files)
        trainer = Trainer(plan, work.setting, relay)
        costs = measure_costs(plan, work.setting.directory, relay)
        cohorts = {cohort.id: cohort for cohort in plan.cohorts}
        while (id := tasks.get()) is not None:
            relay.turn_to(cohorts[id])
            _wait_while_measured(relay)
            trainer.train(cohorts[id], costs)
            events.put(("done", id, None))
        events.put(("finished", os.getpid(), None))
    except UserError as error:
        events.put(("refused", None, str(error)))
    except BaseException:
        events.put(("failed", None, traceback.format_exc()))


def _wait_while_measured(progress: Progress) -> None:
    try:
        with machine.measuring_lock(LOOK_S):
            return
    except UserError:
        progress.note("training waits: another kdbench process is measuring on this machine")
    with machine.measuring_lock(PATIENCE_S):
        return


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class _Relay(Progress):
    """Tells the first process what happens in this one.

    Epochs count for the cohort where its students train; those of an assistant, or of a teacher, do not.
    """

    def __init__(self, events: Any) -> None:
        self._events = events
        self._cohort = ""
        self._epochs = 0
        self._trained = 0.0  # the share of the cohort's students that earlier stages trained
        self._share = 0.0  # that of the next stage, or of this one
        self._counts = False

    def turn_to(self, cohort: Cohort) -> None:
        """Tell of this cohort from now on."""
        self._cohort, self._epochs, self._trained, self._share = cohort.id, cohort.recipe.epochs, 0.0, 0.0

    def part(self, training: int, of: int) -> None:
        self._share = training / of

    def begin(self, label: str, total: int, unit: str) -> None:
        self._counts = self._share > 0
        if self._cohort:
            self._events.put(("stage", self._cohort, label))

    def advance(self, done: float, detail: str = "") -> None:
        if self._counts:
            reached = self._trained * self._epochs + self._share * done
            self._events.put(("epoch", self._cohort, math.floor(reached + ROUNDING)))

    def end(self, summary: str = "") -> None:
        if self._counts:
            self._trained += self._share
            self._share, self._counts = 0.0, False

    def note(self, text: str) -> None:
        self._events.put(("note", self._cohort, text))

    def warn(self, text: str) -> None:
        self._events.put(("warning", self._cohort, text))
