"""Temporary folders: none stays, and none is taken from a process that is alive."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kdbench.temporary import temporary_folder

fcntl = pytest.importorskip("fcntl")

MAKES = """
import os, signal, sys
from kdbench.temporary import temporary_folder
with temporary_folder("kdbench-x-") as folder:
    (folder / "job.json").write_text("{}")
    if sys.argv[1:]:
        os.kill(os.getpid(), signal.SIGKILL)
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def folder_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


def test_it_is_removed_also_after_an_error(folder_of_all: Path) -> None:
    with pytest.raises(ZeroDivisionError), temporary_folder("kdbench-x-") as folder:
        (folder / "file").write_text("content")
        raise ZeroDivisionError
    assert list(folder_of_all.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next_one(folder_of_all: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", MAKES, "killed"], check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = folder_of_all.iterdir()
    (folder_of_all / "kdbench-x-file").write_text("not a folder")
    (folder_of_all / "kdbench-x-link").symlink_to(Path(__file__).parent)
    with temporary_folder("kdbench-y-"):
        assert left.is_dir()  # of another purpose
    with temporary_folder("kdbench-x-"):
        assert not left.exists()
    assert Path(__file__).is_file()


def test_where_there_are_no_locks_it_is_made_all_the_same(
    folder_of_all: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(descriptor: int, operation: int) -> None:
        raise OSError(errno.EBADF, "no locks")

    (folder_of_all / "kdbench-x-left").mkdir()
    monkeypatch.setattr("fcntl.flock", refused)
    with temporary_folder("kdbench-x-") as folder:
        assert folder.is_dir()
    assert [left.name for left in folder_of_all.iterdir()] == ["kdbench-x-left"]


def test_one_that_is_taken_away_before_it_is_locked_is_made_again(
    folder_of_all: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, made = fcntl.flock, []

    def late(descriptor: int, operation: int) -> None:
        made.extend(folder_of_all.iterdir())
        if len(made) == 1:
            made[0].rmdir()
        lock(descriptor, operation)

    monkeypatch.setattr("fcntl.flock", late)
    with temporary_folder("kdbench-x-") as folder:
        assert folder.is_dir() and folder not in made[:1]
    assert list(folder_of_all.iterdir()) == []


def test_that_of_a_living_process_stays(folder_of_all: Path) -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", MAKES], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        with temporary_folder("kdbench-x-") as own:
            assert own != folder and (folder / "job.json").is_file()
        process.communicate()
    assert list(folder_of_all.iterdir()) == []
