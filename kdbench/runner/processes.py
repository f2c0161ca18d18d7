"""Cohorts trained in several processes at once.

Each process takes the next cohort as soon as it is free. What comes out does not depend on the process,
only, in its last bits, on the number of threads. Nothing is measured meanwhile: the run's own costs are
measured before, and a process waits where another run holds the machine's measuring lock.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
import traceback
from collections.abc import Sequence
from multiprocessing.context import SpawnProcess
from typing import Any

import torch

from kdbench import machine
from kdbench.errors import UserError
from kdbench.plan import Plan, make_plan
from kdbench.progress import Progress
from kdbench.runner.costs import measure_costs
from kdbench.runner.trainer import Setting, Trainer
from kdbench.suite import Suite

# How long a process waits for another run's measurement to end.
PATIENCE_S = 3600.0
# How often it is looked whether a process died.
LOOK_S = 1.0


def train_in_processes(
    plan: Plan, setting: Setting, numbers: Sequence[int], jobs: int, progress: Progress
) -> None:
    """Train the cohorts of these numbers in ``jobs`` processes that share the threads of this one.

    Raises:
        UserError: what a process raised; or that one was killed. The others are then stopped; what they
            trained is kept up to the last epoch.
    """
    context = multiprocessing.get_context("spawn")
    tasks, events = context.SimpleQueue(), context.Queue()
    for number in numbers:
        tasks.put(number)
    jobs = min(jobs, len(numbers))
    threads = plan.suite.threads or max(1, torch.get_num_threads() // jobs)
    processes: list[SpawnProcess] = []
    try:
        for _ in range(jobs):
            tasks.put(None)
            processes.append(
                context.Process(target=_work, args=(plan.suite, setting, threads, tasks, events))
            )
            processes[-1].start()
        _follow(plan, numbers, processes, events, progress)
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _follow(
    plan: Plan, numbers: Sequence[int], processes: Sequence[SpawnProcess], events: Any, progress: Progress
) -> None:
    """Tell what the processes tell, until all cohorts are done."""
    epochs = {number: plan.cohorts[number - 1].recipe.epochs for number in numbers}
    done = dict.fromkeys(numbers, 0)
    progress.begin(f"{len(numbers)} cohorts in {len(processes)} processes", sum(epochs.values()), "epoch")
    left = set(numbers)
    while left:
        try:
            kind, number, content = events.get(timeout=LOOK_S)
        except queue.Empty:
            _look_for_the_dead(processes)
            continue
        if kind == "done":
            left.remove(number)
            done[number] = epochs[number]
            progress.advance(sum(done.values()))
        elif kind == "epoch":
            done[number] = min(content, epochs[number])
            progress.advance(sum(done.values()))
        elif kind == "note":
            progress.note(content)
        elif kind == "warning":
            progress.warn(content)
        elif kind == "refused":
            raise UserError(content)
        else:
            raise RuntimeError(f"a training process failed:\n{content}")
    progress.end()


def _look_for_the_dead(processes: Sequence[SpawnProcess]) -> None:
    for process in processes:
        if process.exitcode:
            how = (
                f"was killed by signal {-process.exitcode}"
                if process.exitcode < 0
                else f"ended with status {process.exitcode}"
            )
            raise UserError(
                f"a training process {how} (out of memory?): run the same command again, with fewer --jobs."
            )


def _work(suite: Suite, setting: Setting, threads: int, tasks: Any, events: Any) -> None:
    """Train cohorts until there are no more; what a process runs."""
    # An interrupt reaches every process of a terminal; the first one stops the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    torch.set_num_threads(threads)
    relay = _Relay(events)
    try:
        plan = make_plan(suite, setting.data_root)
        trainer = Trainer(plan, setting, relay)
        costs = measure_costs(plan, setting.directory, relay)
        while (number := tasks.get()) is not None:
            relay.number = number
            _wait_while_measured(relay)
            trainer.train(number, costs)
            events.put(("done", number, None))
    except UserError as error:
        events.put(("refused", 0, str(error)))
    except BaseException:
        events.put(("failed", 0, traceback.format_exc()))


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
    """Tells the first process what happens in this one."""

    def __init__(self, events: Any) -> None:
        self._events = events
        self.number = 0

    def advance(self, done: int, detail: str = "") -> None:
        self._events.put(("epoch", self.number, done))

    def note(self, text: str) -> None:
        self._events.put(("note", self.number, text))

    def warn(self, text: str) -> None:
        self._events.put(("warning", self.number, text))
