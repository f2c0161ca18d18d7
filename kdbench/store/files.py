"""Files: written atomically, read back, and identified by what they hold."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from kdbench.errors import SharedFault

# What a record keeps of the files beside it: name -> sha256 and bytes.
Fingerprints = dict[str, dict[str, Any]]

# Created by whoever writes, so that nothing that lies there, a link least of all, is written through.
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


def canonical_json(value: Any) -> str:
    """Return the one text that equal values share: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """Return the SHA-256 of a value's canonical JSON, in hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def content_id(value: Any) -> str:
    """Return the twelve hexadecimal digits that identify a resolved configuration."""
    return digest(value)[:12]


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(data: bytes) -> dict[str, Any]:
    """Return what is kept of a file that holds these bytes."""
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def write_recorded(path: Path, content: bytes | str) -> Fingerprints:
    """Write a file that a record lists, atomically, and return its fingerprint by its name.

    The fingerprint is that of the content, not of what lies on the disk later: no damage gets into it.
    """
    data = content.encode() if isinstance(content, str) else content
    write_atomic(path, data)
    return {path.name: fingerprint(data)}


def write_atomic(path: Path, content: bytes | str, *, durable: bool = True) -> None:
    """Write a file so that a reader sees the old content or the new one, never a part (see `replacing`)."""
    with replacing(path, durable=durable) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """Open a file that takes the place of ``path`` once all of it is written.

    A killed process cannot damage what is there; with ``durable`` neither can a power cut. A link at
    ``path`` is replaced, not followed.

    Raises SharedFault, with the old content kept, where the disk is full or the folder is not writable.
    """
    partial = path.with_name(f".{path.name}.partial")
    created = False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)  # what a process left that was killed
        with os.fdopen(os.open(partial, _NEW, 0o666), "wb") as file:
            created = True
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        mend = obstacle(path, error) or "Free space or choose another --out."
        raise SharedFault(f"cannot write {path}: {error.strerror or error}. {mend}") from error
    finally:
        if created:
            partial.unlink(missing_ok=True)


def obstacle(path: Path, error: OSError) -> str | None:
    """Return how to make way for a file, where an error is that a folder lies there, or a folder is none."""
    if not isinstance(error, IsADirectoryError | FileExistsError | NotADirectoryError):
        return None
    in_the_way = next(place for place in (path, *path.parents) if place.exists())
    return f"Delete {in_the_way}, which is in the way."


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically; NaN and infinity are refused."""
    write_atomic(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; a file that is missing or damaged is a SharedFault that names it."""
    if path.exists() and not path.is_file():
        raise SharedFault(f"{path} is not a file: delete it and run the suite again.")
    try:
        return json.loads(path.read_bytes(), parse_constant=_no_number)
    except FileNotFoundError:
        raise SharedFault(f"{path} is missing: is {path.parent} a run directory?") from None
    except OSError as error:
        raise SharedFault(f"{path} cannot be read: {error.strerror or error}.") from None
    except (ValueError, RecursionError) as error:
        raise SharedFault(f"{path} is not valid JSON ({error}): delete it and run the suite again.") from None


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
