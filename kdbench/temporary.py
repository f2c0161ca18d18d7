"""Temporary folders of which none stays, even where the process that made it was killed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: a folder of a killed process stays there
    fcntl = None  # type: ignore[assignment]


@contextmanager
def temporary_folder(prefix: str, within: Path | None = None) -> Iterator[Path]:
    """Make a temporary folder and remove it at the end, and first those that killed processes left.

    It is ``within`` a folder, by default the system's for such. Its maker holds a lock on it, which the
    system gives back when the process ends: whose lock is free is of a process that is no more. Where a file
    system knows no locks, those that were left stay.
    """
    parent = within or Path(tempfile.gettempdir())
    for other in parent.glob(f"{prefix}*"):
        with suppress(OSError):
            lock = _locked(other)
            if lock is not None:
                shutil.rmtree(other, ignore_errors=True)
                os.close(lock)
    folder, lock = _new(prefix, parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _new(prefix: str, parent: Path) -> tuple[Path, int | None]:
    """Return a new folder, and what holds its lock where there are locks."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        try:
            lock = _locked(folder)
        except FileNotFoundError:
            continue
        except OSError:
            return folder, None
        # Meanwhile another process may have taken it for one that was left.
        if fcntl is None or (lock is not None and folder.is_dir()):
            return folder, lock
        if lock is not None:
            os.close(lock)


def _locked(folder: Path) -> int | None:
    """Return a descriptor that holds the lock of a folder, None where another one does.

    Raises OSError where it is no folder, is another user's, or cannot be locked.
    """
    if fcntl is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
