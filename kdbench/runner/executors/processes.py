"""``processes``: works in several processes of this machine at once.

Each process takes the next work as soon as it is free. Nothing is measured meanwhile: a process waits where
another run holds the machine's measuring lock.
"""

from __future__ import annotations

import multiprocessing
import signal
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

import torch

from kdbench import machine
from kdbench.child import safe_start
from kdbench.code.foreign import (
    Note,
    Patience,
    ProcessEnded,
    current_limit,
    last_words,
    limit,
    watched_through,
)
from kdbench.errors import UserError
from kdbench.parent import Spawned
from kdbench.runner.events import Event, Tell
from kdbench.runner.executors.inline import Inline
from kdbench.runner.works import Work, executor

# How long a process waits for another run's measurement to end.
PATIENCE_S = 3600.0
# How often it is looked whether a process died or hangs.
LOOK_S = 1.0
# How long a process that tells nothing more may take to end.
END_S = 10.0
# The exit code of a process that was killed by SIGKILL, which Windows does not have.
_KILLED = -9


@dataclass(frozen=True)
class Worker:
    """A process that carries works out, the end of its own pipe where it is heard, and its note.

    A pipe of its own: one that ends in the middle of a word, or while it holds a lock, silences nobody else.
    """

    process: SpawnProcess
    heard: Connection
    note: Note

    def ended(self) -> UserError:
        """Return the error for its end before it told that there is nothing left to do."""
        self.process.join(END_S)
        status = self.process.exitcode or 0
        text = last_words(self.note, status, "a training process")
        if status == _KILLED:
            text += " Run the same command again, with fewer --jobs where memory was short."
        return UserError(text)


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
        workers: list[Worker] = []
        try:
            with safe_start():
                context = multiprocessing.get_context("spawn")
                tasks = context.SimpleQueue()
                for id in (*shared, *([None] * jobs)):
                    tasks.put(id)
                for _ in range(jobs):
                    heard, told = context.Pipe(duplex=False)
                    note = context.RawArray("B", Note.SIZE)
                    arguments = (shared, tasks, told, note, current_limit())
                    process = Spawned(target=work_on, args=arguments)
                    process.start()
                    # The process has the only other end: its death is heard.
                    told.close()
                    workers.append(Worker(process, heard, Note(memoryview(note).cast("B"))))
            tell(Event("begin", "", jobs))
            follow(shared, workers, tell)
        finally:
            for worker in workers:
                worker.process.kill()
                worker.process.join()
                worker.heard.close()


def follow(works: dict[str, Work], workers: Sequence[Worker], tell: Tell) -> None:
    """Pass on what the processes tell, until all works are done."""
    left = set(works)
    working = {worker.heard: (worker, Patience(worker.note)) for worker in workers}
    while left:
        # Looked at before what they tell: what a process told before it ended is read first.
        ended = [worker for worker, _ in working.values() if worker.process.exitcode is not None]
        ready = [heard for heard in wait(list(working), LOOK_S) if isinstance(heard, Connection)]
        for heard in ready:
            worker, _ = working[heard]
            try:
                event = heard.recv()
            except (EOFError, OSError):
                raise worker.ended() from None
            if isinstance(event, Event):
                left -= {event.work} if event.kind == "done" else set()
                tell(event)
                continue
            kind, content = event
            if kind == "refused":
                raise UserError(content)
            if kind == "failed":
                raise RuntimeError(f"a training process failed:\n{content}")
            del working[heard]  # it has nothing left to do
        for worker in ended:
            # What it started may hold its pipe open.
            if worker.heard in working and worker.heard not in ready:
                raise worker.ended()
        for _, patience in working.values():
            if fault := patience.look(LOOK_S):
                raise UserError(fault)
        if left and not working:
            raise RuntimeError(f"no process carried out {', '.join(sorted(left))}")


def work_on(works: dict[str, Work], tasks: Any, told: Connection, note: Any, limit_s: float) -> None:
    """Carry out works until there are no more; what a process runs."""
    # An interrupt reaches every process of a terminal; the first one stops the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    watched_through(Note(memoryview(note).cast("B")))
    limit(limit_s)
    carry_out(works, tasks, told)


def carry_out(works: dict[str, Work], tasks: Any, told: Connection) -> None:
    """Carry out works until there are no more, and tell what happens."""
    site = next(iter(works.values())).site
    torch.set_num_threads(site.threads or torch.get_num_threads())
    try:
        site.open(told.send)  # what speaks against going on is told before anything is waited for
        while (id := tasks.get()) is not None:
            _wait_while_measured(lambda text, id=id: told.send(Event("note", id, text)))
            works[id].carry_out(told.send)
        told.send(("finished", None))
    except UserError as error:
        told.send(("refused", str(error)))
    except ProcessEnded as ended:
        told.send(("refused", f"{ended}."))
    except BaseException:
        told.send(("failed", traceback.format_exc()))


def _wait_while_measured(note: Any) -> None:
    try:
        with machine.measuring_lock(LOOK_S):
            return
    except UserError:
        note("training waits: another kdbench process is measuring on this machine")
    with machine.measuring_lock(PATIENCE_S):
        return
