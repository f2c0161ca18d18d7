"""Reading what a file of weights holds, without running code that a user did not write.

Read are safetensors, and torch's own files with ``weights_only=True``: a pickle that would import or call
anything else is refused. Which of the two a file is, its first bytes tell, not its name. Where it is neither,
they tell what came in its place: the page of a failed download, a pointer of git-lfs, an archive.
"""

from __future__ import annotations

import argparse
import pathlib
import pickle
import stat
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from kdbench.errors import UserError, in_words

# What training programs save beside weights and that does nothing when it is read.
_SCALAR = np.float64(0).__reduce__()[0]
_INERT: list[Any] = [
    argparse.Namespace,
    pathlib.PosixPath,
    np.dtype,
    *(type(np.dtype(code)) for code in "?bhilqBHILQefd"),
    *((_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_ZIP, _ARCHIVE, _PICKLE = b"PK", b"PK\x03\x04", b"\x80"
# The longest header that safetensors allow, in bytes; its length comes first, as eight bytes.
_LONGEST_HEADER = 100_000_000
_AGAIN = "download or copy it again"
_ALONE = "Save the weights alone: torch.save(model.state_dict(), path)"


def read_weight_file(path: Path) -> Any:
    """Return what a file of weights holds: tensors, by name or in other containers.

    Raises UserError for a file that is missing, damaged, refused or something else, with the mend.
    """
    head = b""
    try:
        _refuse_what_is_no_file(path)
        with path.open("rb") as file:
            head = file.read(1024)
            file.seek(0)
            if other := _other(head) or _bomb(path, head):
                raise UserError(f"checkpoint {path} {other}.")
            if _is_safetensors(head):
                return load_file(path)
            with torch.serialization.safe_globals(_INERT), warnings.catch_warnings():
                # Of how torch itself reads sparse and quantised tensors.
                warnings.simplefilter("ignore", UserWarning)
                # By its name torch would take a file for safetensors.
                return torch.load(file, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except SafetensorError as error:
        raise UserError(
            f"checkpoint {path} is a damaged safetensors file ({_line(error)}): {_AGAIN}."
        ) from error
    except pickle.UnpicklingError as error:
        raise UserError(f"checkpoint {path} {_refusal(path, head, error)}.") from error
    except Exception as error:  # what is not whole raises anything
        if isinstance(error, OSError) and error.errno:
            raise UserError(f"checkpoint {path} cannot be read ({error.strerror}).") from error
        raise UserError(f"checkpoint {path} {_damage(path, head, error)}.") from error


def _refuse_what_is_no_file(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"checkpoint {path} does not exist.") from None
    except ValueError as error:
        raise UserError(f"checkpoint {path!r} is no path ({_line(error)}).") from None
    if stat.S_ISDIR(mode):
        raise UserError(f"checkpoint {path} is a folder: name the file of weights in it.")
    if not stat.S_ISREG(mode):
        raise UserError(f"checkpoint {path} is a device or a pipe: name a file of weights.")


def _other(head: bytes) -> str | None:
    """Return what a file is that begins so, None where it may be one of weights."""
    if not head:
        return f"is empty: {_AGAIN}"
    if head.startswith(b"version https://git-lfs"):
        return "is a pointer of git-lfs, not the file itself: fetch it with 'git lfs pull'"
    for magic, name in _COMPRESSED.items():
        if head.startswith(magic):
            return f"is compressed ({name}): unpack it"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--")):
        return "is a web page, not a file of weights: download the file itself"
    return None


def _bomb(path: Path, head: bytes) -> str | None:
    """Return what is wrong with a zip archive that is far larger unpacked; PyTorch does not compress."""
    if not head.startswith(_ARCHIVE):
        return None
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return None  # told when it is read
    return f"is an archive of {size:,} bytes that holds {unpacked:,}" if unpacked > 10 * size else None


def _is_safetensors(head: bytes) -> bool:
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _LONGEST_HEADER


def _refusal(path: Path, head: bytes, error: Exception) -> str:
    """Return why torch would not unpickle a file."""
    lines = (" ".join(line.split()) for line in str(error).splitlines())
    line = next((line for line in lines if "GLOBAL" in line or "Unsupported" in line), "")
    if not head.startswith((_ARCHIVE, _PICKLE)) or not line:
        return _damage(path, head, error)
    unknown = "Unsupported operand" in line
    reason = "that PyTorch did not write" if unknown else f"that needs code ({line[:140]})"
    return f"was refused: it is a pickle {reason}. {_ALONE}"


def _damage(path: Path, head: bytes, error: Exception) -> str:
    """Return what is wrong with a file that torch could not read to its end."""
    if not head.startswith((_ZIP, _PICKLE)):
        return f"is not a file of weights (neither PyTorch's nor safetensors): name another, or {_AGAIN}"
    if "TorchScript" in str(error):
        return f"is a TorchScript program. {_ALONE}"
    if head.startswith(_ZIP):
        try:
            if not zipfile.is_zipfile(path):
                return f"is cut short: {_AGAIN}"
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as fault:
            return f"is damaged ({_line(fault)}): {_AGAIN}"
        if not any(name.endswith("data.pkl") for name in names):
            return f"is a zip archive that PyTorch did not write: unpack it. {_ALONE}"
    return f"is damaged or cut short ({_line(error)}): {_AGAIN}"


def _line(error: Exception) -> str:
    return in_words(error)[:160].rstrip(".") or type(error).__name__
