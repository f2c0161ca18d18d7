"""What a suite may not have run: code in a run directory, and Python's own library.

A suite names code of its user's, who trusts it. A run directory may be somebody else's, so none of its files
is imported; and no model, dataset or method is a function of Python's library, which could do anything with
arguments from a suite.
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from pathlib import Path
from types import BuiltinFunctionType, FunctionType
from typing import Any

from kdbench.code.workspace import Workspace
from kdbench.errors import UserError
from kdbench.store import RunDirectory


def refuse_shared_file(file: Path, reference: str) -> None:
    """Raise UserError for a file of code that lies in a run directory."""
    for folder in file.parents:
        if RunDirectory(folder).is_begun:
            raise UserError(
                f"{reference} lies in the run directory {folder}, none of whose files is run: move it to a "
                "folder of your own if you trust it."
            )


def refuse_library_module(module: str, reference: str, workspace: Workspace) -> None:
    """Raise UserError for a module of Python's own library, where no file of the user's has its name."""
    top, _, rest = module.partition(".")
    if top == "kdbench" and rest.partition(".")[0] in _COMMANDS:
        raise UserError(f"{reference} is of kdbench's commands, and no model, dataset or method.")
    if top in sys.stdlib_module_names and PathFinder.find_spec(top, workspace.roots) is None:
        raise _of_library(reference)


def refuse_library_member(member: Any, reference: str) -> None:
    """Raise UserError for a function or class that a module has from Python's own library."""
    if isinstance(member, type | FunctionType | BuiltinFunctionType):
        top = str(member.__module__).partition(".")[0]
        file = getattr(sys.modules.get(str(member.__module__)), "__file__", None)
        own = file is not None and not Path(file).is_relative_to(_LIBRARY)
        if top in sys.stdlib_module_names and not own:
            raise _of_library(reference)


# Parts of kdbench that act when they are called.
_COMMANDS = frozenset({"cli", "__main__", "command", "child"})
_LIBRARY = Path(sys.modules["types"].__file__ or "").parent


def _of_library(reference: str) -> UserError:
    return UserError(
        f"{reference} is of Python's own library, and no model, dataset or method: name a function of a "
        "file or package of yours."
    )
