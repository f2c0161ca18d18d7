"""A child process that reports by lines, says whose turn it is, and is killed when it falls silent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kdbench.machine import held_locks

# Before its first line a process loads Python and torch, which a cold disk makes slow.
STARTUP_SECONDS = 120.0

# Windows has no such signal, and no process there ends with its negative number.
_SIGKILL = getattr(signal, "SIGKILL", 9)


def supervise(
    command: Sequence[str],
    *,
    on_line: Callable[[str], float | None],
    timeout_s: float,
    stderr: Path,
    result: Path | None = None,
) -> str | None:
    """Run a command to its end and pass on each line of its output; return None, or why it did not succeed.

    The reason tells silence (no line for ``timeout_s``, or for the seconds that ``on_line`` returned of the
    last line if it gave any; the process and its children are then killed),
    death by a signal, a failing exit code, and an end before the file ``result`` was written apart, with the
    last line of the standard error, which is kept in the file ``stderr``. The caller sleeps between lines and
    takes no time from the child. The child holds this process's measuring lock as long as it lives.
    """
    with (
        stderr.open("wb") as errors,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            encoding="utf-8",
            errors="replace",
            pass_fds=held_locks(),
            start_new_session=True,
        ) as process,
    ):
        watch = _Watchdog(process)
        assert process.stdout is not None
        try:
            patience = max(STARTUP_SECONDS, timeout_s)
            while True:
                with watch.limit(patience):
                    line = process.stdout.readline()
                # A line without its end was cut off by the death of the process.
                if not line.endswith("\n"):
                    break
                patience = on_line(line.rstrip("\n")) or timeout_s
            with watch.limit(timeout_s):
                code = process.wait()
        finally:
            watch.kill()
    if watch.silence is not None:
        return f"the measuring process made no progress for {watch.silence:g} s and was killed"
    if code == 0 and (result is None or result.is_file()):
        return None
    if code == -_SIGKILL:
        return "the measuring process was killed by SIGKILL, often a sign of too little memory"
    last = _last_line(stderr)
    detail = f": {last}" if last else ""
    if code < 0:
        return f"the measuring process was killed by {_signal_name(-code)}{detail}"
    if code == 0:
        return f"the measuring process ended before its work was done (os._exit?){detail}"
    return f"the measuring process ended with code {code}{detail}"


class TurnFile:
    """Whose turn it is, left where the parent finds it should the process end.

    A line to the parent would wake it at every turn, in the midst of the timing; a write to a file does not.
    """

    NAME = "turn.json"

    def __init__(self, folder: Path) -> None:
        """Write into a folder that the parent knows."""
        self._file = (folder / self.NAME).open("wb", buffering=0)

    def write(self, label: str, step: str) -> None:
        """Say that a model has its turn in a step."""
        self._file.seek(0)
        self._file.write(json.dumps([label, step]).encode())
        self._file.truncate()

    def clear(self) -> None:
        """Say that nobody has a turn."""
        self._file.truncate(0)

    @classmethod
    def read(cls, folder: Path) -> tuple[str, str] | None:
        """Return the label and the step that a process which ended was at; None where nobody had a turn."""
        path = folder / cls.NAME
        text = path.read_text() if path.is_file() else ""
        if not text:
            return None
        label, step = json.loads(text)
        return label, step


class _Watchdog:
    """Kills a process and everything that it started when one step takes longer than its limit."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.silence: float | None = None

    @contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        timer = threading.Timer(seconds, self._expire, [seconds])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def kill(self) -> None:
        # Once the process is reaped its number may belong to another.
        if self.process.returncode is not None:
            return
        if hasattr(os, "killpg"):
            os.killpg(self.process.pid, _SIGKILL)
        else:
            self.process.kill()

    def _expire(self, seconds: float) -> None:
        self.silence = seconds
        self.kill()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_line(path: Path) -> str:
    lines = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
