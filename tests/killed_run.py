"""Run kdbench's command line and kill this process at its n-th event; started by test_resume.py.

Events are training steps and the renames that finish a file: before the rename, and after it.
Usage: python killed_run.py N ARGUMENTS...; with N = 0 nothing is killed and the number of events is printed.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kdbench.cli import main
from kdbench.training.trainee import Trainee

limit = int(sys.argv[1])
events = 0


def count() -> None:
    global events
    events += 1
    if events == limit:
        os.kill(os.getpid(), signal.SIGKILL)


def counted(function: Callable[..., Any], *, before: bool = False) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if before:
            count()
        result = function(*args, **kwargs)
        count()
        return result

    return wrapper


Trainee.step = counted(Trainee.step)  # type: ignore[method-assign]
Path.replace = counted(Path.replace, before=True)  # type: ignore[method-assign]
sys.argv = ["kdbench", *sys.argv[2:]]
try:
    main()
finally:
    print(f"events {events}")
