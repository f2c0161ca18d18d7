"""The command is watched: whatever a user's code does to its process, there is one line and a status."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kdbench import child

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="watched on Linux only")

WATCHED = """
import os, signal, sys, threading
from kdbench import command
from kdbench.code.foreign import foreign, limit
command.LOOK_S = 0.01
limit(0.05)
with command.watched():
    {body}
"""
IN_CODE = "with foreign('model net.py:make', limited=True): {}"


def watched(body: str) -> subprocess.CompletedProcess[str]:
    code = WATCHED.format(body=body)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (
            IN_CODE.format("os._exit(0)"),
            "error: model net.py:make ended the process with status 0 (os._exit?): code of a suite must "
            "return.",
        ),
        (
            IN_CODE.format("os.kill(os.getpid(), signal.SIGSEGV)"),
            "error: model net.py:make crashed the process (SIGSEGV): mend it, or leave it out.",
        ),
        (
            IN_CODE.format("os.kill(os.getpid(), signal.SIGKILL)"),
            "error: kdbench was killed by SIGKILL while it ran model net.py:make, often a sign of too little "
            "memory.",
        ),
        (
            IN_CODE.format("os.kill(os.getpid(), signal.SIGTERM)"),
            "error: model net.py:make crashed the process (SIGTERM): mend it, or leave it out.",
        ),
        (
            IN_CODE.format("threading.Event().wait()"),
            "error: model net.py:make took more than 0.05 s and was stopped: mend it, or give it longer with "
            "--code-timeout SECONDS.",
        ),
        (
            "os._exit(0)",
            "error: kdbench ended with status 0 before its work was done: see that no code of the suite ends "
            "its process (os._exit).",
        ),
    ],
)
def test_what_ended_the_process_is_named_in_one_line(body: str, line: str) -> None:
    done = watched(body)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{line}\n")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("pass", 0),
        ("sys.exit(1)", 1),
        ("1 / 0", 1),
        # Python then ends by SIGINT.
        ("try: exec('raise KeyboardInterrupt')\n    except KeyboardInterrupt: sys.exit(130)", 130),
        ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
        ("os.kill(os.getppid(), signal.SIGTERM); threading.Event().wait()", -signal.SIGTERM),
    ],
)
def test_a_command_that_ends_by_itself_or_is_asked_to_has_its_own_status(body: str, status: int) -> None:
    done = watched(body)
    assert done.returncode == status
    assert "error:" not in done.stderr


INTERRUPTED = """
import os, signal, sys, types
from kdbench import __main__, command
cli = sys.modules["kdbench.cli"] = types.ModuleType("kdbench.cli")
def interrupted(*arguments): {body}
{place} = interrupted
__main__.main()
"""


@pytest.mark.parametrize(
    ("place", "body"),
    [
        ("cli.main", "raise KeyboardInterrupt"),
        ("cli.main", "os.kill(os.getppid(), signal.SIGINT); signal.pause()"),
        ("command.watched_through", "os.kill(os.getpid(), signal.SIGINT)"),  # before it has begun
        ("command.watched", "raise KeyboardInterrupt"),
    ],
)
def test_an_interrupt_is_one_line(place: str, body: str) -> None:
    code = INTERRUPTED.format(place=place, body=body)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped\n")


def killed_after_a_line(command: list[str], folder: Path) -> str:
    """Kill a process once one of its children has written a line, and read to the end: when that is dead."""
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.kill()
        rest, _ = process.communicate(timeout=60)
    return line + rest


def test_the_command_ends_with_the_process_that_watches_it(tmp_path: Path) -> None:
    code = WATCHED.format(body="print('works', flush=True); threading.Event().wait()")
    assert killed_after_a_line([sys.executable, "-c", code], tmp_path) == "works\n"


def test_a_child_ends_with_its_process_whatever_it_does(tmp_path: Path) -> None:
    # A regular expression that takes ages holds the interpreter: no thread of the child could act.
    (tmp_path / "endless.py").write_text(
        "import re\ndef main():\n    print('works', flush=True)\n    re.match('(a|a)*b', 'a' * 60)\n"
    )
    code = "import subprocess; from kdbench import child; subprocess.run(child.command('endless'))"
    assert killed_after_a_line([sys.executable, "-c", code], tmp_path) == "works\n"


def test_a_model_that_ends_its_process_is_named_by_check(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("import os\n\n\ndef make(num_classes):\n    os._exit(0)\n")
    (tmp_path / "suite.yaml").write_text(
        "dataset: {name: digits, args: {limit: 60, limit_test: 20}}\nteachers: [cnn_4]\n"
        "students: ['net.py:make']\nmethods: [scratch]\n"
    )
    command = [sys.executable, "-m", "kdbench", "check", "suite.yaml"]
    environment = {**os.environ, "PYTHONPATH": str(Path(child.__file__).parents[1])}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"error: model '{tmp_path}/net.py:make' ended the process with status 0")
