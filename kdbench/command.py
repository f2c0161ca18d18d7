"""The process that watches the command: it says what ended the other one, and stops code that hangs.

What the command does is done in a child, made before anything is imported. A user's code there may call
``os._exit``, crash or never return; the command then still ends with one line and status 2. Where there are
no such processes (Windows, macOS) the command runs by itself.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from kdbench.code.foreign import Note, Patience, last_words, watched_through
from kdbench.parent import end_with

# How often it is looked whether foreign code takes too long.
LOOK_S = 1.0
# Handed on to the child; those of a terminal, which come from the kernel, it gets itself.
_HANDED_ON = (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))
_FROM_KERNEL = 0x80


@contextmanager
def watched() -> Iterator[None]:
    """Go on in a child that is watched; this process does not, and ends with the status of the child.

    Where there is no such child this process itself goes on.
    """
    if sys.platform != "linux":
        yield
        return
    note, parent = Note(mmap.mmap(-1, Note.SIZE)), os.getpid()
    heard = {*_HANDED_ON, signal.SIGCHLD}
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, heard)
    child = os.fork()
    if child:
        _end(_watch(child, note, heard), note)
    try:
        end_with(parent)
        watched_through(note)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        yield
    finally:
        note.finish()


def _watch(child: int, note: Note, heard: set[signal.Signals]) -> int | str:
    """Wait for the child; return its status, negative for a signal, or why it was stopped."""
    patience = Patience(note)
    stopped: str | None = None
    asked: set[int] = set()
    while True:
        heard_of = signal.sigtimedwait(heard, LOOK_S)
        if heard_of is not None and heard_of.si_signo != signal.SIGCHLD:
            asked.add(heard_of.si_signo)
            if heard_of.si_code != _FROM_KERNEL:
                os.kill(child, heard_of.si_signo)
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            # What nobody asked this process for is what foreign code has done to itself.
            by_itself = code < 0 and -code not in asked and bool(note.what)
            return stopped or (last_words(note, code, "kdbench") if by_itself else code)
        stopped = stopped or patience.look(LOOK_S)
        if stopped:
            os.kill(child, signal.SIGKILL)


def _end(status: int | str, note: Note) -> None:
    """End this process as the child did, or with one line and status 2."""
    if isinstance(status, int):
        if -status == signal.SIGINT:
            # So Python ends after an interrupt that came while it ran a string, though it was caught.
            os._exit(130)
        if -status in (signal.SIGTERM, signal.SIGHUP):
            # Somebody asked for it; who started this process shall see that it ended by the signal.
            signal.signal(-status, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {-status})
            os.kill(os.getpid(), -status)
        if note.finished and status >= 0:
            os._exit(status)
        status = last_words(note, status, "kdbench")
    from kdbench.cli.options import print_error

    if sys.stderr.isatty():
        sys.stderr.write("\x1b[?25h\n")  # a bar was drawn, without the cursor
    print_error(status)
    sys.stderr.flush()
    os._exit(2)
