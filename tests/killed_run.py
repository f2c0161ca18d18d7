"""Carry out a suite again and again, each time in a fork that may be killed; started by test_resume.py.

Usage: python killed_run.py SUITE. Each line ``N OUT`` of the standard input is a run into OUT that kills
itself at its N-th event, or with N = 0 goes to its end. It is answered by two numbers: the exit code,
negative for a signal, and the number of events that there were. Torch is imported once for all of them.

Events are training steps and the renames that finish a file: before the rename, and after it.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kdbench.runner import run
from kdbench.suite import Suite
from kdbench.training.trainee import Trainee

# Shared with the forks, so that the number outlives a kill.
events = memoryview(mmap.mmap(-1, 8)).cast("q")
limit = 0


def count() -> None:
    events[0] += 1
    if events[0] == limit:
        os.kill(os.getpid(), signal.SIGKILL)


def counted(function: Callable[..., Any], *, before: bool = False) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if before:
            count()
        result = function(*args, **kwargs)
        count()
        return result

    return wrapper


def carry_out(out: str) -> int:
    """Return the exit code of a run in a fork of this process."""
    events[0] = 0
    child = os.fork()
    if child == 0:
        try:
            run(Suite.load(sys.argv[1]), out, device="cpu")
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


Trainee.step = counted(Trainee.step)  # type: ignore[method-assign]
Path.replace = counted(Path.replace, before=True)  # type: ignore[method-assign]
for line in sys.stdin:
    number, _, folder = line.strip().partition(" ")
    limit = int(number)
    print(carry_out(folder), events[0], flush=True)
