"""The ways in which a file or a folder of a run directory is damaged."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

# What is done to a path; the folder outside is for what it may be linked to.
Way = Callable[[Path, Path, random.Random], object]


def _flip(file: Path, outside: Path, chance: random.Random) -> None:
    """Flip one bit, of JSON one that changes what it says."""
    whole = file.read_bytes()
    while True:
        content = bytearray(whole)
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        if file.suffix != ".json" or _said(bytes(content)) != _said(whole):
            file.write_bytes(content)
            return


def _said(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _link_to_copy(path: Path, outside: Path, chance: random.Random) -> None:
    path.rename(outside / path.name)
    path.symlink_to(outside / path.name)


def _link_to_folder(path: Path, outside: Path, chance: random.Random) -> None:
    _remove(path)
    path.symlink_to(outside)


def _link_to_nothing(path: Path, outside: Path, chance: random.Random) -> None:
    _remove(path)
    path.symlink_to(outside / "not-there-yet")


def _folder(path: Path, outside: Path, chance: random.Random) -> None:
    _remove(path)
    path.mkdir()


def _pipe(path: Path, outside: Path, chance: random.Random) -> None:
    _remove(path)
    os.mkfifo(path)


def _file(path: Path, outside: Path, chance: random.Random) -> None:
    _remove(path)
    path.write_text("a file in place of a folder\n")


def _partial_link(path: Path, outside: Path, chance: random.Random) -> None:
    """Lay a link where a file is written before it takes its name."""
    path.with_name(f".{path.name}.partial").symlink_to(outside / "x")


OF_FILES: dict[str, Way] = {
    "empty": lambda file, outside, chance: file.write_bytes(b""),
    "half": lambda file, outside, chance: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "flip": _flip,
    "deleted": lambda path, outside, chance: _remove(path),
    "text": lambda file, outside, chance: file.write_text("nothing of the kind\n" * 20),
    "noise": lambda file, outside, chance: file.write_bytes(chance.randbytes(max(64, file.stat().st_size))),
    "object": lambda file, outside, chance: file.write_text("{}"),
    "list": lambda file, outside, chance: file.write_text("[]"),
    "link-to-copy": _link_to_copy,
    "link-to-folder": _link_to_folder,
    "link-to-nothing": _link_to_nothing,
    "folder": _folder,
    "pipe": _pipe,
    "partial-link": _partial_link,
}
OF_FOLDERS: dict[str, Way] = {
    "deleted": OF_FILES["deleted"],
    "link-to-copy": _link_to_copy,
    "link-to-folder": _link_to_folder,
    "link-to-nothing": _link_to_nothing,
    "file": _file,
    "pipe": _pipe,
}
# These leave what is read as it is: that they pass unnoticed is no fault.
HARMLESS = ("partial-link",)
