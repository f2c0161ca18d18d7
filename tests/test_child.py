"""No process of kdbench imports a file of the current directory in the place of another module."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from kdbench import child

ROOT = Path(child.__file__).parents[1]
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


class Late:
    """Takes long to load, as what a training process works with does."""

    def __reduce__(self) -> tuple[object, ...]:
        return _pause, ()


def _pause() -> None:
    os.write(1, b"%d\n" % os.getpid())
    signal.pause()


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux")
def test_what_is_started_ends_with_its_parent_before_it_has_loaded_its_work() -> None:
    code = (
        "import sys; from kdbench.parent import Spawned; from tests.test_child import Late\n"
        "if __name__ == '__main__': Spawned(target=print, args=(Late(),)).start(); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as parent:
        assert parent.stdout is not None
        loading = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        loading.wait(timeout=60)
