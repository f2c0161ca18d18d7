"""Supervising a process: its lines, its death, its silence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kdbench.efficiency.process import supervise
from kdbench.errors import UserError
from kdbench.machine import measuring_lock


def run(tmp_path: Path, code: str, timeout_s: float = 60.0) -> tuple[str | None, list[str]]:
    lines: list[str] = []
    reason = supervise(
        [sys.executable, "-c", code],
        on_line=lines.append,
        timeout_s=timeout_s,
        stderr=tmp_path / "stderr.txt",
    )
    return reason, lines


def test_lines_are_passed_on_in_order(tmp_path: Path) -> None:
    reason, lines = run(tmp_path, "print('one', flush=True); print('zwei – two')")
    assert (reason, lines) == (None, ["one", "zwei – two"])


def test_a_failing_exit_gives_its_code_and_the_last_error_line(tmp_path: Path) -> None:
    reason, _ = run(tmp_path, "raise ValueError('no such layer')")
    assert reason == "the measuring process ended with code 1: ValueError: no such layer"
    assert "Traceback" in (tmp_path / "stderr.txt").read_text()


def test_a_process_that_is_killed_and_a_line_that_was_cut_off(tmp_path: Path) -> None:
    code = "import os; print('whole', flush=True); print('cut', end='', flush=True); os.kill(os.getpid(), 9)"
    reason, lines = run(tmp_path, code)
    assert reason == "the measuring process was killed by SIGKILL, often a sign of too little memory"
    assert lines == ["whole"]


def test_a_crash_names_its_signal_and_the_last_error_line(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; print('bad pointer', file=sys.stderr); os.kill(os.getpid(), signal.SIGSEGV)"
    )
    reason, _ = run(tmp_path, code)
    assert reason == "the measuring process was killed by SIGSEGV: bad pointer"


def test_silence_ends_the_process(tmp_path: Path) -> None:
    code = "import threading; print('ready', flush=True); threading.Event().wait()"
    reason, lines = run(tmp_path, code, timeout_s=0.2)
    assert reason == "the measuring process made no progress for 0.2 s and was killed"
    assert lines == ["ready"]


def test_a_child_that_outlives_the_process_does_not_hold_the_caller(tmp_path: Path) -> None:
    # The grandchild keeps the pipe open; it shares the group of the process and is killed with it.
    hangs = "import threading; threading.Event().wait()"
    code = (
        f"import os, subprocess, sys; subprocess.Popen([sys.executable, '-c', {hangs!r}]); "
        "print('ready', flush=True); os.kill(os.getpid(), 9)"
    )
    reason, _ = run(tmp_path, code, timeout_s=0.5)
    assert reason is not None


def test_a_process_that_ends_before_it_wrote_its_result(tmp_path: Path) -> None:
    reasons = []
    for code in ("import os; os._exit(0)", "open('result.json', 'w').close()"):
        reasons.append(
            supervise(
                [sys.executable, "-c", f"import os; os.chdir({str(tmp_path)!r}); {code}"],
                on_line=print,
                timeout_s=60,
                stderr=tmp_path / "stderr.txt",
                result=tmp_path / "result.json",
            )
        )
    assert reasons == ["the measuring process ended before its work was done (os._exit?)", None]


HOLDS = """
import os, sys
from pathlib import Path
from kdbench.efficiency.process import supervise
from kdbench.machine import measuring_lock
code = "import os, sys; print(os.getpid(), flush=True); import threading; threading.Event().wait()"
with measuring_lock(0):
    supervise(
        [sys.executable, "-c", code], on_line=lambda line: print(line, flush=True), timeout_s=60,
        stderr=Path(sys.argv[1]),
    )
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="descriptors are passed on by POSIX only")
def test_a_process_holds_the_measuring_lock_as_long_as_it_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    command = [sys.executable, "-c", HOLDS, str(tmp_path / "stderr.txt")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        measuring = int(owner.stdout.readline())
        owner.kill()
    try:
        with pytest.raises(UserError, match="another kdbench process is measuring"), measuring_lock(0):
            pass
    finally:
        os.kill(measuring, signal.SIGKILL)
    with measuring_lock(60):
        pass


def test_a_listener_that_raises_ends_the_process(tmp_path: Path) -> None:
    def interrupted(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        supervise(
            [sys.executable, "-c", "import threading; print('ready', flush=True); threading.Event().wait()"],
            on_line=interrupted,
            timeout_s=60,
            stderr=tmp_path / "stderr.txt",
        )
