"""What is said of the machine, and the lock that keeps measurements apart."""

from __future__ import annotations

import getpass
import importlib
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from kdbench import machine
from kdbench.efficiency import ModelJob, Protocol, measure
from kdbench.errors import UserError
from kdbench.inputs import InputSpec


def test_the_fingerprint_names_the_hardware_and_nobody() -> None:
    found = machine.fingerprint()
    text = json.dumps(found, allow_nan=False)
    assert found["cores_logical"] == psutil.cpu_count()
    assert found["memory_gib"] == round(psutil.virtual_memory().total / 2**30, 1)
    assert found["python"] == platform.python_version()
    assert found["cpu"]
    assert str(Path.home()) not in text
    for name in (platform.node(), getpass.getuser()):
        # A name such as "root" may be part of another word; as a word of its own it must not occur.
        assert name not in text.replace('"', " ").replace(",", " ").split()


CPUINFO = """processor\t: 0
model name\t: Example CPU @ 2.00GHz
flags\t\t: fpu sse avx2 avx512f avx512_bf16 amx_tile amx_bf16

processor\t: 1
model name\t: Other CPU
"""


def test_the_first_processor_of_the_kernels_list_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(CPUINFO)
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "cpuinfo")
    found = machine.fingerprint()
    assert found["cpu"] == "Example CPU @ 2.00GHz"
    assert found["cpu_flags"] == ["amx_bf16", "amx_tile", "avx512_bf16", "avx512f", "avx2"]


def test_a_system_without_the_list_has_no_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "none")
    found = machine.fingerprint()
    assert found["cpu_flags"] is None
    assert found["cpu"]


def test_the_driver_is_read_from_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = (
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\nGCC 12.3"
    )
    (tmp_path / "version").write_text(line)
    monkeypatch.setattr(machine, "_NVIDIA_DRIVER", tmp_path / "version")
    assert machine._gpu_driver() == "535.104.05"
    monkeypatch.setattr(machine, "_NVIDIA_DRIVER", tmp_path / "none")
    assert machine._gpu_driver() is None


def test_versions_are_those_that_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy
    import torch

    monkeypatch.setattr(machine, "LIBRARIES", ("numpy", "torch", "no-such-library"))
    assert machine.versions() == {
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "torch": torch.__version__.split("+")[0],
        "no-such-library": None,
    }


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Nobody", "-c", "user.email=nobody@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with one committed package."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "module.py").write_text("x = 1\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    return tmp_path


def test_the_commit_of_a_checkout(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    assert machine.git_commit(checkout / "package") == commit
    (checkout / "notes.txt").write_text("beside the package")
    assert machine.git_commit(checkout / "package") == commit
    (checkout / "package" / "module.py").write_text("x = 2\n")
    assert machine.git_commit(checkout / "package") == commit + "-dirty"
    git(checkout, "checkout", "--quiet", ".")
    (checkout / "package" / "new.py").write_text("")
    assert machine.git_commit(checkout / "package") == commit + "-dirty"


def test_what_is_not_tracked_has_no_commit(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = checkout / "venv" / "kdbench"
    installed.mkdir(parents=True)
    (installed / "module.py").write_text("")
    assert machine.git_commit(installed) is None
    outside = tmp_path_factory.mktemp("outside")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(outside.parent))
    assert machine.git_commit(outside) is None
    monkeypatch.setenv("PATH", str(outside))
    assert machine.git_commit(checkout / "package") is None


def test_the_load_average_is_that_of_the_last_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "getloadavg", lambda: (1.234, 2.0, 3.0))
    assert machine.load_average() == 1.23


HOLDER = """
import sys
from kdbench.machine import measuring_lock
with measuring_lock(0):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test and its children a measuring lock of their own."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def lock_held(own_lock: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the measuring lock until its input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.communicate("")


def test_a_lock_that_another_process_holds_is_a_clear_error(lock_held: subprocess.Popen[str]) -> None:
    with pytest.raises(UserError) as error, machine.measuring_lock(0):
        pytest.fail("the lock was taken")
    assert str(error.value) == (
        "another kdbench process is measuring on this machine, and still was after 0 s. "
        "Wait for it to end, then run the same command again."
    )
    lock_held.communicate("")
    with machine.measuring_lock(0):
        pass


def test_who_waits_for_the_lock_is_told_once(lock_held: subprocess.Popen[str]) -> None:
    told: list[str] = []

    def waiting() -> None:
        told.append("waiting")
        lock_held.communicate("")

    with machine.measuring_lock(60, on_wait=waiting):
        assert told == ["waiting"]
    with machine.measuring_lock(60, on_wait=waiting):
        assert told == ["waiting"]


def test_nothing_is_measured_while_another_process_measures(
    lock_held: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **keywords: object) -> None:
        raise AssertionError("a worker was started")

    # The package's attribute of this name is the function.
    monkeypatch.setattr(importlib.import_module("kdbench.efficiency.measure"), "supervise", refuse)
    with pytest.raises(UserError, match="another kdbench process is measuring"):
        measure(
            [ModelJob("a", "mlp_8")],
            inputs=InputSpec.image((1, 4, 4)),
            num_classes=2,
            protocol=Protocol(devices=("cpu",), lock_timeout_s=0),
        )


def test_the_lock_is_given_back_after_an_error(own_lock: Path) -> None:
    with pytest.raises(ZeroDivisionError), machine.measuring_lock(0):
        raise ZeroDivisionError
    with machine.measuring_lock(0):
        pass


def test_a_lock_file_that_cannot_be_used_is_a_clear_error(own_lock: Path) -> None:
    (own_lock / "kdbench-measuring.lock").mkdir()
    with pytest.raises(UserError, match=r"cannot use the measuring lock .*"), machine.measuring_lock(0):
        pytest.fail("a folder was locked")
