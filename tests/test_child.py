"""No process of kdbench imports a file of the current directory in the place of another module."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kdbench import child

# Some of what Python, multiprocessing, pandas, torch and kdbench import.
NAMES = ("random", "html", "pickle", "socket", "tempfile", "typing", "dataclasses", "json", "struct")
MARK = "imported from the current directory"


@pytest.fixture(autouse=True)
def _a_folder_of_traps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text(f"import os\nos.write(2, b'{MARK}')\nos._exit(7)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(child.__file__).parents[1]))


def ran(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_line() -> None:
    done = ran(sys.executable, "-m", "kdbench", "list", "suites")
    assert (done.returncode, done.stderr) == (0, "")
    assert "quickstart" in done.stdout


def test_the_measuring_process() -> None:
    done = ran(*child.command("kdbench.efficiency.worker", "no-such-job.json", "."))
    assert done.stdout == '{"event": "ready"}\n'
    assert "no-such-job.json" in done.stderr and MARK not in done.stderr


def test_a_training_process(capfd: pytest.CaptureFixture[str]) -> None:
    with child.safe_start():
        process = multiprocessing.get_context("spawn").Process(target=os.getpid)
        process.start()
    process.join()
    assert process.exitcode == 0 and MARK not in capfd.readouterr().err
    assert "PYTHONSAFEPATH" not in os.environ


def test_this_kdbench_is_found_before_an_installed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(Path(child.__file__).parents[1])
    monkeypatch.setattr(sys, "path", ["/usr/lib/python3.11", "/venv/lib/site-packages", "/elsewhere"])
    child.find_kdbench()
    child.find_kdbench()
    assert sys.path == ["/usr/lib/python3.11", root, "/venv/lib/site-packages", "/elsewhere"]


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux")
@pytest.mark.parametrize(("starter", "signal"), [(os.getpid, 9), (os.getppid, 0)])
def test_what_multiprocessing_starts_ends_with_its_parent_before_it_imports_the_rest(
    monkeypatch: pytest.MonkeyPatch, starter: Callable[[], int], signal: int
) -> None:
    monkeypatch.setenv(child.STARTED_BY, str(starter()))
    code = (
        "import ctypes, os, sys; import kdbench.__main__; death = ctypes.c_int(); "
        "ctypes.CDLL(None).prctl(2, ctypes.byref(death)); "
        f"print(death.value, '{child.STARTED_BY}' in os.environ, 'torch' in sys.modules)"
    )
    assert ran(sys.executable, "-P", "-c", code).stdout == f"{signal} False False\n"
