"""What a suite says of files: the paths and names in it, and the folder that these are relative to.

A suite keeps what was written, which ids and first weights are made of; so they do not depend on where its
folder lies. What is opened is the same, located from that folder.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, PrivateAttr, ValidationError, ValidationInfo, model_validator

from kdbench.errors import UserError
from kdbench.suite.plain import as_name, shown

# The field of a suite, and the entry of the context in which its parts are validated.
PATHS_FROM = "paths_from"
# Beginnings of names that are no code of a user's own.
_OURS = ("torchvision:", "kdbench.")


class Placed(BaseModel):
    """A part of a suite that may name files; it knows the folder that these are relative to."""

    _folder: Path | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _in_its_folder(self, info: ValidationInfo) -> Placed:
        self._folder = paths_from(info)
        return self

    @classmethod
    def placed(cls, fields: Mapping[str, Any], folder: Path | None) -> Self:
        """Return the part with these fields, whose paths are relative to a folder; None is the current one.

        Raises UserError in one line for a field that is wrong.
        """
        try:
            return cls.model_validate(fields, context={PATHS_FROM: folder})
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            text = first["msg"].removeprefix("Value error, ")
            raise UserError(f"{where} {shown(first['input'])}: {text}.") from None

    @property
    def folder(self) -> Path | None:
        """The folder that relative paths are relative to; None is the current one."""
        return self._folder


def paths_from(info: ValidationInfo) -> Path | None:
    """Return the folder of the suite that is being validated; None is the current one."""
    folder: Path | None = (info.context or {}).get(PATHS_FROM)
    return folder


def is_code(name: str) -> bool:
    """Return whether a name is of a user's own code: ``package.module:name`` or ``path/file.py:name``."""
    return ":" in name and not name.startswith(_OURS)


def located(name: str, folder: Path | None) -> str:
    """Return a name of a user's own code as it is found from ``folder``, any other name as it is.

    ``nets.py:make`` becomes ``FOLDER/nets.py:make``, and ``package.module:make`` becomes
    ``FOLDER/package.module:make`` where the module lies there; else it is an installed one.
    """
    if folder is None or not is_code(name):
        return name
    place, colon, attribute = name.rpartition(":")
    if place.endswith(".py") or "/" in place:
        return f"{folder / Path(place).expanduser()}{colon}{attribute}"
    return f"{folder / place}{colon}{attribute}" if module_file(place, folder) else name


def opened(args: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
    """Return the arguments of a model with the names of a user's own code as they are found."""
    return {name: located(text, folder) if isinstance(text, str) else text for name, text in args.items()}


def module_file(name: str, folder: Path) -> Path | None:
    """Return the file of a module below a folder, without importing anything; None where there is none."""
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts):
        return None
    path = folder.joinpath(*parts)
    files = (path.with_name(f"{path.name}.py"), path / "__init__.py")
    return next((file for file in files if is_file(file)), None)


def is_file(path: Path) -> bool:
    """Return whether a file is there (see `is_there`)."""
    return is_there(path) and path.is_file()


def is_there(path: Path) -> bool:
    """Return whether a path is there; what no file system takes for a name, such as a long one, is not."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def misplaced(text: str, folder: Path | None) -> str | None:
    """Return what is wrong with a path or a name of code that is there from the current folder only."""
    here = Path.cwd()
    if folder is None or folder.resolve() == here.resolve():
        return None
    place = text.rpartition(":")[0] if is_code(text) else text
    if is_code(text) and not (place.endswith(".py") or "/" in place):
        # What Python finds by itself is installed, wherever that is.
        if module_file(place, folder) or not module_file(place, here) or str(here) in sys.path:
            return None
        return _two_places(folder, here)
    path = Path(place).expanduser()
    if is_there(folder / path) or not is_there(here / path):
        return None
    return _two_places(folder / path, here / path)


def _two_places(wanted: Path, there: Path) -> str:
    return (
        f"paths in a suite are relative to its file: it is not at {wanted}, only at {there}; "
        f"write the path from the suite's file, or {PATHS_FROM}: {Path.cwd()}"
    )


def checked_name(name: str, info: ValidationInfo) -> str:
    """Return the name of a model, method or dataset; raises ValueError for code that is misplaced."""
    if is_code(name) and (problem := misplaced(name, paths_from(info))):
        raise ValueError(problem)
    return name


def located_file(path: Path, info: ValidationInfo) -> Path:
    """Return a path of a suite that is being validated, from the suite's folder; so it needs no other name.

    Raises ValueError for a file that is there from the current folder only.
    """
    as_name(str(path))
    folder = paths_from(info)
    if folder is None:
        return path
    if problem := misplaced(str(path), folder):
        raise ValueError(problem)
    return folder / path.expanduser()


def names_files(value: Any) -> bool:
    """Return whether plain values hold a name of a user's own code that is relative to some folder."""
    if isinstance(value, str):
        path = value.removeprefix("folder:").removeprefix("parquet:")
        return is_code(value) and not Path(path).expanduser().is_absolute()
    if isinstance(value, Mapping):
        return any(map(names_files, value.values()))
    return isinstance(value, list | tuple) and any(map(names_files, value))
