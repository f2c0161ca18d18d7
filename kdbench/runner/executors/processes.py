"""``processes``: works in several processes of this machine at once.

Each process takes the next work as soon as it is free. Nothing is measured meanwhile: a process waits where
another run holds the machine's measuring lock.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
import traceback
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.context import SpawnProcess
from typing import Any

import torch

from kdbench import machine
from kdbench.errors import UserError
from kdbench.runner.events import Event, Tell
from kdbench.runner.executors.inline import Inline
from kdbench.runner.works import Work, executor

# How long a process waits for another run's measurement to end.
PATIENCE_S = 3600.0
# How often it is looked whether a process died.
LOOK_S = 1.0


@executor("processes", title="several cohorts at once, each in a process of this machine")
class Processes:
    """Carries works out in up to ``jobs`` processes that share this one's threads and memory."""

    def __init__(self, jobs: int) -> None:
        """Take how many processes there may be."""
        self._jobs = jobs

    def run(self, works: Sequence[Work], tell: Tell) -> None:
        """Start the processes and pass on what they tell until all works are done.

        Raises:
            UserError: what a process raised; or that one was killed or ended by itself, or that a user's file
                was edited, so that its plan is another. The others are then stopped; what they trained is
                kept up to the last epoch.
        """
        jobs = min(self._jobs, len(works))
        if jobs == 1:
            Inline(1).run(works, tell)
            return
        here = works[0].site
        if here.workshop:
            # This process only waits: the memory is all for those that train.
            here.workshop.release()
        site = here.shared_by(jobs, torch.get_num_threads())
        shared = {work.id: replace(work, site=site) for work in works}
        context = multiprocessing.get_context("spawn")
        tasks, events = context.SimpleQueue(), context.Queue()
        for id in (*shared, *([None] * jobs)):
            tasks.put(id)
        processes = [context.Process(target=carry_out, args=(shared, tasks, events)) for _ in range(jobs)]
        try:
            for process in processes:
                process.start()
            tell(Event("begin", "", jobs))
            follow(shared, processes, events, tell)
        finally:
            for process in processes:
                if process.pid is not None:
                    process.terminate()
                    process.join()


def follow(works: dict[str, Work], processes: Sequence[SpawnProcess], events: Any, tell: Tell) -> None:
    """Pass on what the processes tell, until all works are done."""
    left = set(works)
    finished: set[int] = set()
    while left:
        # Looked at before the events: what a process told before it ended is read first.
        ended = [process for process in processes if process.exitcode is not None]
        try:
            event = events.get(timeout=LOOK_S)
        except queue.Empty:
            _refuse_early_ends(ended, finished)
            continue
        if isinstance(event, Event):
            left -= {event.work} if event.kind == "done" else set()
            tell(event)
            continue
        kind, content = event
        if kind == "finished":
            finished.add(content)
        elif kind == "refused":
            raise UserError(content)
        else:
            raise RuntimeError(f"a training process failed:\n{content}")


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


def carry_out(works: dict[str, Work], tasks: Any, events: Any) -> None:
    """Carry out works until there are no more; what a process runs."""
    # An interrupt reaches every process of a terminal; the first one stops the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    site = next(iter(works.values())).site
    torch.set_num_threads(site.threads or torch.get_num_threads())
    try:
        site.open(events.put)  # what speaks against going on is told before anything is waited for
        while (id := tasks.get()) is not None:
            _wait_while_measured(lambda text, id=id: events.put(Event("note", id, text)))
            works[id].carry_out(events.put)
        events.put(("finished", os.getpid()))
    except UserError as error:
        events.put(("refused", str(error)))
    except BaseException:
        events.put(("failed", traceback.format_exc()))


def _wait_while_measured(note: Any) -> None:
    try:
        with machine.measuring_lock(LOOK_S):
            return
    except UserError:
        note("training waits: another kdbench process is measuring on this machine")
    with machine.measuring_lock(PATIENCE_S):
        return


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
