"""Code that is not kdbench's own, while it runs: it must return, and who ends or hangs the process is named.

`foreign` says in a `Note` which code the process is in. The note is shared with the process that watches
this one, and outlives whatever that code does to its own.
"""

from __future__ import annotations

import signal
import struct
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kdbench.errors import UserError

LIMIT_S = 300.0
OPTION = "--code-timeout"


class ProcessEnded(Exception):
    """Code raised what ends the process, such as SystemExit; its text says what, and in which line."""


class Note:
    """Which foreign code a process is in, whether that is limited in time, and whether all is done.

    It is made on a buffer of `SIZE` bytes, zero at first, which two processes share.
    """

    SIZE = 1024
    _HEADER = struct.Struct("=?dQH")  # all is done, seconds allowed or 0, a number of its own, bytes of text

    def __init__(self, buffer: Any) -> None:
        """Take the buffer."""
        self._buffer = buffer
        self._number = 0

    def write(self, what: str, limit_s: float) -> None:
        """Say which code it is in, "" for kdbench's own, and how many seconds it may take, 0 for any."""
        text = what.encode(errors="replace")[: self.SIZE - self._HEADER.size]
        self._number += 1
        begin = self._HEADER.size
        # No text while it is being changed: its reader may come in between.
        self._HEADER.pack_into(self._buffer, 0, False, 0.0, self._number, 0)
        self._buffer[begin : begin + len(text)] = text
        self._HEADER.pack_into(self._buffer, 0, False, limit_s, self._number, len(text))

    def finish(self) -> None:
        """Say that all is done."""
        self._HEADER.pack_into(self._buffer, 0, True, 0.0, 0, 0)

    @property
    def finished(self) -> bool:
        """Whether all is done."""
        return bool(self._HEADER.unpack_from(self._buffer)[0])

    @property
    def number(self) -> int:
        """The number of this stay in foreign code, or in kdbench's own."""
        return int(self._HEADER.unpack_from(self._buffer)[2])

    @property
    def limit_s(self) -> float:
        """How many seconds the code may take, 0 for any."""
        return float(self._HEADER.unpack_from(self._buffer)[1])

    @property
    def what(self) -> str:
        """The code that the process is in, "" for kdbench's own."""
        length = self._HEADER.unpack_from(self._buffer)[3]
        return bytes(self._buffer[self._HEADER.size :][:length]).decode(errors="replace")


class Patience:
    """How long foreign code has taken already, as far as its watcher was awake, and when that is too long."""

    def __init__(self, note: Note, clock: Callable[[], float] = time.monotonic) -> None:
        """Watch a note."""
        self._note, self._clock = note, clock
        self._number, self._seconds, self._looked = -1, 0.0, clock()

    def look(self, every_s: float) -> str | None:
        """Return one line where code took too long; to be called every so many seconds, or less.

        A watcher that sleeps for longer was stopped, by Ctrl-Z or with the machine, and the code with it.
        """
        now, number, limit = self._clock(), self._note.number, self._note.limit_s
        passed = min(now - self._looked, 2 * every_s)
        self._seconds = self._seconds + passed if number == self._number else 0.0
        self._number, self._looked = number, now
        if not limit or self._seconds < limit:
            return None
        return (
            f"{self._note.what} took more than {limit:g} s and was stopped: mend it, or give it longer with "
            f"{OPTION} SECONDS."
        )


def last_words(note: Note, status: int, who: str) -> str:
    """Return one line on a process that ended before it was done: by which code, and how.

    ``status`` is its exit status, negative for a signal; ``who`` names it where no foreign code was at work.
    """
    code = note.what
    if status >= 0:
        how = f"ended with status {status} before its work was done"
        if code:
            return f"{code} ended the process with status {status} (os._exit?): code of a suite must return."
        return f"{who} {how}: see that no code of the suite ends its process (os._exit)."
    name = _signal_name(-status)
    if name == "SIGKILL":
        during = f" while it ran {code}" if code else ""
        return f"{who} was killed by {name}{during}, often a sign of too little memory."
    if code:
        return f"{code} crashed the process ({name}): mend it, or leave it out."
    return f"{who} was ended by {name}."


_note: Note | None = None
_limit_s = 0.0
_stack: list[tuple[str, float]] = []


def watched_through(note: Note | None) -> None:
    """Write into a note from now on which foreign code this process is in."""
    global _note
    _note = note


def limit(seconds: float) -> None:
    """Give imports, factories and first forward passes of foreign code so many seconds; 0: any number.

    Raises UserError for less than none, and for what is no number.
    """
    global _limit_s
    if not seconds >= 0:
        raise UserError(f"{OPTION} is {seconds:g}: give it seconds, or 0 for any number.")
    _limit_s = seconds


def current_limit() -> float:
    """Return how many seconds foreign code is given; 0 for any number."""
    return _limit_s


@contextmanager
def foreign(what: str, *, limited: bool = False) -> Iterator[None]:
    """Say that foreign code is at work; where it is ``limited``, for no longer than `limit` allows.

    Raises ProcessEnded for what it raises that is no Exception and no interrupt: SystemExit, for example.
    """
    _stack.append((what, _limit_s if limited else 0.0))
    _tell()
    try:
        yield
    except (Exception, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        raise ProcessEnded(f"{_shown(error)}; code of a suite must return").with_traceback(
            error.__traceback__
        ) from error
    finally:
        _stack.pop()
        _tell()


def _tell() -> None:
    if _note is None:
        return
    what = _stack[-1][0] if _stack else ""
    # What is called by limited code is part of it.
    _note.write(what, next((seconds for _, seconds in reversed(_stack) if seconds), 0.0))


def _shown(error: BaseException) -> str:
    text = " ".join(str(error).split())
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}({text}) in {Path(where.filename).name}, line {where.lineno}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
