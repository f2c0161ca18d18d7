"""The state of a cohort after every epoch, so that a killed run goes on with the same bits.

There is no generator state in it: every random stream is seeded by its purpose (``seeds``). The file is what
``torch.save`` writes, then a mark and the SHA-256 of all before it: nothing is unpickled that is not what was
written. It is saved work only, so one that is damaged is refused and may be deleted.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, BinaryIO, cast

import torch
from pydantic import BaseModel, Field, ValidationError

from kdbench.errors import SharedFault, in_words
from kdbench.store import replacing
from kdbench.store.sealed import CLOSED
from kdbench.training.trainee import StateShape, Trainee

_MARK = b"kdbench cohort 1"
_CHUNK = 1 << 20


class _Content(BaseModel):
    model_config = CLOSED

    cohort: str
    epoch: Annotated[int, Field(ge=1)]
    trainees: dict[str, StateShape]


def write_state(path: Path, epoch: int, trainees: Sequence[Trainee]) -> None:
    """Write the state of all trainees after an epoch, atomically.

    Raises SharedFault, with the old state kept, where the disk is full.
    """
    states = {trainee.id: trainee.state() for trainee in trainees}
    with replacing(path, durable=False) as file:
        sealing = _Sealing(file)
        try:
            torch.save({"cohort": path.stem, "epoch": epoch, "trainees": states}, cast("BinaryIO", sealing))
        except RuntimeError:
            # torch tells of it in words of its own.
            if sealing.fault:
                raise sealing.fault from None
            raise
        file.write(_MARK + sealing.hash.digest())


def saved_ids(path: Path) -> set[str]:
    """Return the ids of the trainees whose state a checkpoint holds.

    Raises SharedFault, as `read_state`, for one that is damaged.
    """
    content = _read(path)
    return set(content["trainees"]) if content else set()


def read_state(path: Path, trainees: Sequence[Trainee]) -> int:
    """Restore the trainees and return the last finished epoch; 0 where there is no checkpoint.

    Raises SharedFault, with the mend, for one that is damaged, of another cohort or of other training.
    """
    content = _read(path)
    if content is None:
        return 0
    if content["epoch"] > trainees[0].recipe.epochs:
        raise _refused(path, f"is of epoch {content['epoch']:,} of {trainees[0].recipe.epochs:,}")
    for trainee in trainees:
        state = content["trainees"].get(trainee.id)
        if state is None:
            raise _refused(path, f"lacks '{trainee.id}'")
        try:
            trainee.restore(state, content["epoch"])
        except Exception as error:  # modules, a user's own among them, raise anything for what does not fit
            reason = in_words(error)[:160].rstrip(".") or type(error).__name__
            raise _refused(path, f"does not fit '{trainee.id}' ({reason})") from error
    return int(content["epoch"])


def _read(path: Path) -> dict[str, Any] | None:
    """Return what a checkpoint holds, on the CPU; None where there is none."""
    try:
        if not path.is_file():
            if path.exists() or path.is_symlink():
                raise _refused(path, "is not a file")
            return None
        with path.open("rb") as file:
            if not _is_whole(file):
                raise _refused(path, "is damaged, or of another version of kdbench")
            file.seek(0)
            content = torch.load(file, map_location="cpu", weights_only=True)
    except SharedFault:
        raise
    except OSError as error:
        raise _refused(path, f"cannot be read ({error.strerror or error})") from error
    except Exception as error:  # unpickling raises anything
        raise _refused(path, f"cannot be read ({type(error).__name__})") from error
    try:
        _Content.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise _refused(path, f"does not hold the state of a cohort ({where:.80}: {first['msg']})") from None
    if content["cohort"] != path.stem:
        raise _refused(path, "is of another cohort")
    return content


def _is_whole(file: BinaryIO) -> bool:
    """Return whether a file ends with the checksum of what stands before it."""
    hash = hashlib.sha256()
    left = os.fstat(file.fileno()).st_size - len(_MARK) - hash.digest_size
    while left > 0 and (chunk := file.read(min(left, _CHUNK))):
        hash.update(chunk)
        left -= len(chunk)
    return left == 0 and file.read() == _MARK + hash.digest()


def _refused(path: Path, why: str) -> SharedFault:
    return SharedFault(f"{path} {why}: delete it, and its cohort starts again from its first epoch.")


class _Sealing:
    """A file to which torch writes, with the hash of all of it, and the first fault that it met."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.hash = hashlib.sha256()
        self.fault: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            written = self._file.write(data)
        except OSError as error:
            self.fault = self.fault or error
            raise
        self.hash.update(data)
        return written

    def flush(self) -> None:
        self._file.flush()
