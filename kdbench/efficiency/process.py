"""A child process that reports by lines, and is killed when it falls silent."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

# Before its first line a process loads Python and torch, which a cold disk makes slow.
STARTUP_SECONDS = 120.0


def supervise(
    command: Sequence[str],
    *,
    on_line: Callable[[str], None],
    timeout_s: float,
    stderr: Path,
    environment: dict[str, str] | None = None,
) -> str | None:
    """Run a command to its end and pass on each line of its output; return None, or why it did not succeed.

    The reason tells silence (no line for ``timeout_s``; the process and its children are then killed),
    death by a signal, and a failing exit code apart, with the last line of the standard error, which
    is kept in the file ``stderr``. This process sleeps between lines and takes no time from the child.
    """
    silent = threading.Event()
    with stderr.open("wb") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=environment,
            start_new_session=True,
        )
    try:
        for line in _lines(process, timeout_s, silent):
            on_line(line)
        code = _wait(process, timeout_s, silent)
    finally:
        _kill(process)
        if process.stdout is not None:
            process.stdout.close()
    if silent.is_set():
        return f"the measuring process made no progress for {timeout_s:g} s and was killed"
    if code == 0:
        return None
    last = _last_line(stderr)
    detail = f": {last}" if last else ""
    if code < 0:
        return f"the measuring process was killed by {_signal_name(-code)}{detail}"
    return f"the measuring process ended with code {code}{detail}"


def _lines(process: subprocess.Popen[str], timeout_s: float, silent: threading.Event) -> Iterator[str]:
    def give_up() -> None:
        silent.set()
        _kill(process)

    assert process.stdout is not None
    patience = max(STARTUP_SECONDS, timeout_s)
    while True:
        watchdog = threading.Timer(patience, give_up)
        watchdog.daemon = True
        watchdog.start()
        try:
            line = process.stdout.readline()
        finally:
            watchdog.cancel()
        # A line without its end was cut off by the death of the process.
        if not line.endswith("\n"):
            return
        yield line.rstrip("\n")
        patience = timeout_s


def _wait(process: subprocess.Popen[str], timeout_s: float, silent: threading.Event) -> int:
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        silent.set()
        _kill(process)
        return process.wait()


def _kill(process: subprocess.Popen[str]) -> None:
    """Kill the process and everything that it started; nothing happens where it is gone already."""
    with suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_line(path: Path) -> str:
    lines = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
