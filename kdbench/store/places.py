"""Places in a run directory: what lies there has a plain name, and nothing leads out of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from kdbench.errors import SharedFault, UserError
from kdbench.store.files import obstacle

# No separator, and no dot at the beginning: such a name stays in its folder.
_PLAIN = re.compile(r"[^./\\\x00-\x1f][^/\\\x00-\x1f]{0,200}")
LOCK = ".lock"


def within(folder: Path, *names: str) -> Path:
    """Return a path below a folder, that of a file or of a folder that need not be there.

    Raises SharedFault for a name that is not plain, and where something on the way is a link: a run directory
    may be somebody else's, and nothing of it is read or written elsewhere.
    """
    path = folder
    for name in names:
        if not _PLAIN.fullmatch(name):
            raise SharedFault(f"{name!r:.80} names no file or node of {folder}: its records are damaged.")
        path = path / name
        if path.is_symlink():
            raise SharedFault(f"{path} is a link, which is not followed: put in its place what it leads to.")
    return path


@contextmanager
def locked(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Keep other processes from writing into a folder, which is made if need be.

    Raises UserError where another one does already, if it is not waited for, and SharedFault where there can
    be no lock: the disk is full, the folder is not writable, the lock is a link or a folder.
    """
    path = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            raise SharedFault(f"{path} is a link, which is not followed: delete it.")
        if path.exists() and not path.is_file():
            raise SharedFault(f"cannot lock {folder}: delete {path}, which is no file.")
        lock = filelock.FileLock(path, timeout=-1 if wait else 0)
        lock.acquire()
    except filelock.Timeout:
        raise UserError(f"another kdbench process is working on {folder}: wait for it.") from None
    except OSError as error:
        mend = obstacle(path, error) or f"Choose another folder, or mend {path}."
        raise SharedFault(f"cannot lock {folder}: {error.strerror or error}. {mend}") from error
    try:
        yield
    finally:
        lock.release()
