"""Paths that cannot be written or read: too long, of another kind, links, pipes, somebody else's folders."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from harm.fixtures import RUN, Fixtures
from harm.trial import OUTSIDE, SOUND, SUITE, Prepare, Trial

SOUND_FILES = {SUITE: json.dumps(SOUND)}
# Data that is looked for below the data root.
IN_ROOT = {"data.yaml": json.dumps(SOUND | {"dataset": "parquet:nobody"})}
AT = "place"


def _filled(work: Path) -> None:
    (work / AT).mkdir()
    (work / AT / "thesis.txt").write_text("dear to somebody")


def _shut(work: Path) -> None:
    (work / AT).mkdir()
    (work / AT).chmod(0o500)


# What lies at the path that a command is given.
KINDS: dict[str, Callable[[Path], object]] = {
    "a-file": lambda work: (work / AT).write_text("x"),
    "a-pipe": lambda work: os.mkfifo(work / AT),
    "a-link-to-nothing": lambda work: (work / AT).symlink_to(f"{OUTSIDE}/nobody/at/all"),
    "a-link-to-itself": lambda work: (work / AT).symlink_to(AT),
    "a-link-to-a-file": lambda work: (work / AT).symlink_to(f"{OUTSIDE}/x"),
    "a-folder-of-others": _filled,
}
LITERAL = {
    "name-too-long": "x" * 300,
    "path-too-long": "/".join(["x" * 100] * 60),
    "nul": "a\0b",
    "below-a-file": f"{SUITE}/x",
    "a-device": "/dev/null",
    "below-a-device": "/dev/null/x",
    "below-proc": "/proc/nobody/x",
    "escapes": "\x1b[2J/\n",
}


def _run_at(work: Path, fixtures: Fixtures) -> None:
    shutil.copytree(fixtures.finished.work / RUN, work / RUN)


def _alone(make: Callable[[Path], object]) -> Prepare:
    return lambda work, fixtures: make(work)


def _beside_run(make: Callable[[Path], object]) -> Prepare:
    def prepare(work: Path, fixtures: Fixtures) -> None:
        _run_at(work, fixtures)
        make(work)

    return prepare


def _suite_at(kind: str) -> Callable[[Path, Fixtures], object]:
    def prepare(work: Path, fixtures: Fixtures) -> None:
        KINDS[kind](work)
        if (work / AT).is_symlink() or (work / AT).exists():
            (work / AT).rename(work / "place.yaml")

    return prepare


def _lock(make: Callable[[Path], object]) -> Callable[[Path, Fixtures], object]:
    def prepare(work: Path, fixtures: Fixtures) -> None:
        (work / RUN).mkdir()
        make(work / RUN / ".lock")

    return prepare


def trials() -> Iterator[Trial]:
    """Yield every kind of path for every option that takes one."""
    out = ("run", SUITE, "--out")
    store = ("run", SUITE, "--out", RUN, "--teacher-store")
    report = ("report", RUN, "--out")
    for label, make in KINDS.items():
        alone, both = _alone(make), _beside_run(make)
        yield Trial("paths", f"out-is-{label}", ((*out, AT),), SOUND_FILES, alone)
        if label != "a-folder-of-others":
            yield Trial("paths", f"store-is-{label}", ((*store, AT),), SOUND_FILES, alone)
            yield Trial("paths", f"report-is-{label}", ((*report, AT),), prepare=both)
        yield Trial(
            "paths", f"data-root-is-{label}", (("plan", "data.yaml", "--data-root", AT),), IN_ROOT, alone
        )
        yield Trial("paths", f"suite-is-{label}", (("check", "place.yaml"),), prepare=_suite_at(label))
        yield Trial("paths", f"run-is-{label}", (("report", AT), ("compare", AT)), prepare=alone)
    for label, path in LITERAL.items():
        # A folder may be called so.
        statuses, made = ((0, 2), ("\x1b[2J",)) if label == "escapes" else ((2,), ())
        for name, words, files, prepare in (
            ("out", out, SOUND_FILES, None),
            ("store", store, SOUND_FILES, None),
            ("report", report, SOUND_FILES, _run_at),
        ):
            yield Trial("paths", f"{name}-of-{label}", ((*words, path),), files, prepare, statuses, made)
        yield Trial("paths", f"suite-of-{label}", (("check", f"{path}.yaml"),))
        yield Trial("paths", f"run-of-{label}", (("report", path), ("check", path)))
        root = ("plan", "data.yaml", "--data-root", path)
        yield Trial("paths", f"data-root-of-{label}", (root,), IN_ROOT)
    locks: dict[str, Callable[[Path], object]] = {
        "a-link": lambda lock: lock.symlink_to(f"../{OUTSIDE}/x"),
        "a-link-to-nothing": lambda lock: lock.symlink_to(f"../{OUTSIDE}/nobody"),
        "a-folder": lambda lock: lock.mkdir(),
        "a-pipe": lambda lock: os.mkfifo(lock),
    }
    for label, make in locks.items():
        # A pipe can be locked as well as a file.
        statuses = (0, 2) if label == "a-pipe" else (2,)
        yield Trial("paths", f"lock-is-{label}", ((*out, RUN),), SOUND_FILES, _lock(make), statuses)
