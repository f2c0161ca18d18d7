"""A process that ends when the one that started it does, however that ended."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from multiprocessing.context import SpawnProcess
from typing import Any

_PR_SET_PDEATHSIG = 1


def end_with(parent: int) -> None:
    """End this process as soon as the process ``parent``, which started it, is no more.

    On Linux the kernel kills it at once, whatever it is doing; elsewhere a thread waits for the parent's end,
    which cannot act while foreign code holds the interpreter.
    """
    if sys.platform == "linux":
        import ctypes

        death = ctypes.c_ulong(signal.SIGKILL)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, death, *[ctypes.c_ulong(0)] * 3)
        # It may have ended before the kernel was asked, and then nobody would tell.
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
    else:
        threading.Thread(target=_wait_for, args=(parent,), daemon=True).start()


def _wait_for(parent: int) -> None:
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(parent).wait()
    os._exit(1)


class Spawned(SpawnProcess):
    """A process that ends with the one that starts it, from before it imports what it works with.

    It is made from a pickle: what rebuilds it is called before its work, and all that needs, is loaded.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what rebuilds it, with the number of this process, and then its work."""
        return _spawned, (type(self), os.getpid()), self.__dict__


def _spawned(kind: type[Spawned], parent: int) -> Spawned:
    end_with(parent)
    return kind.__new__(kind)
