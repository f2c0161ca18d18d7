"""Runs the command line: in a fork that has torch loaded already, or in a process as a person starts it.

Nothing here, and nothing that a process imports before it forks, may start a thread.
"""

from __future__ import annotations

import io
import os
import runpy
import signal
import subprocess
import sys
import time
import traceback
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
# By this variable of their environment the processes of a case are found.
MARK = "KDBENCH_FAULTS_CASE"
LIMIT_S = 90.0
# More than this means that something grows without bound; torch and its libraries take 0.7 GB.
LIMIT_BYTES = 5 * 2**30
POLL_S = 0.01
# Kept before a user's code, or what guards against it, can put something else in its place.
_EXIT = os._exit


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit status (negative for a signal), what it wrote, how long it took.

    ``over`` says which limit it ran past; it was killed then, and ``status`` says nothing.
    """

    status: int
    output: str
    error: str
    seconds: float
    over: str | None = None

    def last_lines(self) -> str:
        """Return the end of what it wrote, of standard error if there is any."""
        lines = [line for line in (self.error or self.output).splitlines() if line.strip()]
        return " | ".join(lines[-3:])


@dataclass
class Place:
    """Where the commands of a case run: a folder, and below it a folder for temporary files of its own."""

    folder: Path
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        self.temporary.mkdir(parents=True, exist_ok=True)
        own = {"TMPDIR": str(self.temporary), MARK: self.mark, "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
        return {**os.environ, "PYTHONPATH": str(ROOT), **own, **(more or {})}

    def processes(self) -> list[psutil.Process]:
        """Return the processes that were started with this place's mark and still live."""
        return [process for process in psutil.process_iter() if self._is_own(process)]

    def _is_own(self, process: psutil.Process) -> bool:
        try:
            marked = process.environ().get(MARK) == self.mark
            return marked and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    def end_processes(self) -> None:
        for process in self.processes():
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue


def forked(
    arguments: Sequence[str],
    place: Place,
    *,
    limit_s: float = LIMIT_S,
    environment: Mapping[str, str] | None = None,
    draw: bool = True,
) -> Ended:
    """Run ``kdbench ARGUMENTS`` in a fork of this process, in the folder of the case.

    Without ``draw`` the figures of a report are left out, which take most of the time of a run of a second.
    """
    place.folder.mkdir(parents=True, exist_ok=True)
    files = [place.folder / ".stdout", place.folder / ".stderr"]
    own = place.environment(environment)
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _become(arguments, place.folder, files, own)
            if not draw:
                _leave_figures_out()
            status = _exit_status()
        except BaseException:
            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            _EXIT(status)
    status, over = _watched(child, began + limit_s, limit_s)
    seconds = time.monotonic() - began
    output, error = (file.read_text(errors="replace") for file in files)
    for file in files:
        file.unlink()
    return Ended(status, output, error, seconds, over)


def _become(arguments: Sequence[str], folder: Path, files: Sequence[Path], own: Mapping[str, str]) -> None:
    """Make this fork what a new process would be."""
    os.setsid()
    os.environ.clear()
    os.environ.update(own)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    sys.stdout = io.TextIOWrapper(open(1, "wb", closefd=False), "utf-8", "backslashreplace")  # noqa: SIM115
    sys.stderr = io.TextIOWrapper(open(2, "wb", closefd=False), "utf-8", "backslashreplace")  # noqa: SIM115
    os.chdir(folder)
    sys.argv = ["kdbench", *arguments]
    # As ``python -m`` has it: the current directory comes first, and no folder of the harness is there.
    sys.path[:] = ["", *(place for place in sys.path if place != str(ROOT / "benchmarks"))]
    sys.dont_write_bytecode = True
    import tempfile

    tempfile.tempdir = None


def _leave_figures_out() -> None:
    from kdbench.report import gallery

    gallery.drawings = dict


def _exit_status() -> int:
    try:
        runpy.run_module("kdbench", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
            return 1
        return ended.code or 0
    return 0


def _watched(child: int, deadline: float, limit_s: float) -> tuple[int, str | None]:
    """Wait for a child; kill it at its deadline or where it grows without bound."""
    pause = 0.002
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            _end_group(child)
            return os.waitstatus_to_exitcode(status), None
        grown = _resident(child) > LIMIT_BYTES
        if grown or time.monotonic() > deadline:
            _end_group(child)
            # It may not have had the time to make a group of its own.
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            over = f"grew over {LIMIT_BYTES >> 30} GiB" if grown else f"still runs after {limit_s:g} s"
            return 0, over
        time.sleep(pause)
        pause = min(2 * pause, 0.05)


def _resident(child: int) -> int:
    """Return the bytes that the largest of a process and those it has started holds."""
    try:
        process = psutil.Process(child)
        return max(one.memory_info().rss for one in (process, *process.children(recursive=True)))
    except psutil.Error:
        return 0


def _end_group(child: int) -> None:
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:
        return


class Started:
    """``kdbench ARGUMENTS`` in a process as a person starts it, that can be watched and killed."""

    def __init__(
        self, arguments: Sequence[str], place: Place, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start it in the folder of the case."""
        place.folder.mkdir(parents=True, exist_ok=True)
        self.files = [place.folder / ".stdout", place.folder / ".stderr"]
        self.began = time.monotonic()
        with self.files[0].open("wb") as output, self.files[1].open("wb") as error:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "kdbench", *arguments],
                cwd=place.folder,
                env=place.environment(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=error,
                start_new_session=True,
            )

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def kill(self) -> None:
        """Kill the process itself, with nothing that it has started."""
        self.process.kill()
        self.process.wait()

    def wait(self, limit_s: float) -> Ended:
        """Wait for its end; at the limit it is killed, with all that it has started in its session."""
        over = None
        try:
            status = self.process.wait(max(0.0, limit_s - self.seconds))
        except subprocess.TimeoutExpired:
            over = f"still runs after {limit_s:g} s"
            _end_group(self.process.pid)
            status = self.process.wait()
        seconds = self.seconds
        output, error = (file.read_text(errors="replace") for file in self.files)
        return Ended(status, output, error, seconds, over)


def started(
    arguments: Sequence[str],
    place: Place,
    *,
    limit_s: float = LIMIT_S,
    environment: Mapping[str, str] | None = None,
) -> Ended:
    """Run ``kdbench ARGUMENTS`` in a process as a person starts it, to its end."""
    process = Started(arguments, place, environment)
    ended = process.wait(limit_s)
    for file in process.files:
        file.unlink()
    return ended
