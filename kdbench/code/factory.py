"""Functions that a person's own code provides: ``package.module:name`` and ``path/file.py:name``."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from kdbench.code.foreign import foreign
from kdbench.code.imports import Code, code_of
from kdbench.code.trust import refuse_library_member, refuse_library_module, refuse_shared_file
from kdbench.code.workspace import Loader, Workspace, refuse_stale, workspace_of
from kdbench.errors import UserError, in_words, nearest
from kdbench.suite.references import is_file, module_file

# How deep the imports of a user's own code for a reference are nested.
_DEPTH = [0]


def load_factory(reference: str) -> Callable[..., Any]:
    """Import and return the callable that ``package.module:name`` or ``path/file.py:name`` names.

    Both are found from the current directory too, and ``path/package.module:name`` from the folder ``path``.
    What a file imports is looked for beside it first, and two files of different folders may import different
    modules of one name. Files that were not changed are imported once; settings of torch that one changes are
    set back. Raises UserError for a missing file or module, an import that fails (with the exception's text),
    or a name that is not there (with the nearest one).
    """
    place, name = _parse(reference)
    from kdbench.shared_state import kept_settings

    with kept_settings(), _importing():
        module = (
            _import_file(_file(place), reference) if _is_file(place) else _import_module(place, reference)
        )
    member = getattr(module, name, None)
    if callable(member):
        refuse_library_member(member, reference)
        return member
    public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
    hint = nearest(name, public) or (f" It has: {', '.join(sorted(public))}." if public else "")
    fault = "no" if member is None else "no function or class"
    raise UserError(f"there is {fault} '{name}' in {place}.{hint}")


def is_importing() -> bool:
    """Return whether a user's own code is being imported for a reference to it."""
    return _DEPTH[0] > 0


@contextmanager
def _importing() -> Iterator[None]:
    _DEPTH[0] += 1
    try:
        yield
    finally:
        _DEPTH[0] -= 1


def factory_fingerprint(reference: str) -> str:
    """Return the SHA-256, in hexadecimal, of the code behind a factory: its file and what that imports.

    That is the file's own where it imports nothing of the user's, and where it is a library's (see
    `kdbench.code.imports` for what is followed). The file is not imported. Raises UserError where there is
    none.
    """
    place, _ = _parse(reference)
    if _is_file(place):
        path = _file(place)
        return code_of(path, workspace_of(path.parent).roots).fingerprint
    folder, module = _module_place(place) or (Path.cwd(), place)
    code = _code_of_module(module, reference, workspace_of(folder))
    if code is None:
        raise UserError(f"cannot find the source of {reference}: there is no file for the module {place}.")
    return code.fingerprint


def has_changed(reference: str, fingerprint: str) -> bool:
    """Return whether the code behind a factory is another than that of a fingerprint.

    It is imported where it seems so: what code adds to ``sys.path`` counts for what it consists of. Raises
    UserError where there is none, or it cannot be imported.
    """
    if factory_fingerprint(reference) == fingerprint:
        return False
    load_factory(reference)
    return factory_fingerprint(reference) != fingerprint


def _parse(reference: str) -> tuple[str, str]:
    place, _, name = reference.rpartition(":")
    if not place or not name.isidentifier():
        raise UserError(f"'{reference}' is no factory: write package.module:name or path/file.py:name.")
    return place, name


def _is_file(place: str) -> bool:
    return place.endswith(".py") or ("/" in place and _module_place(place) is None)


def _module_place(place: str) -> tuple[Path, str] | None:
    """Return the folder and the name of a module that is given as ``path/package.module``."""
    path = Path(place).expanduser()
    return (path.parent.resolve(), path.name) if module_file(path.name, path.parent) else None


def _file(place: str) -> Path:
    path = Path(place).expanduser()
    if not is_file(path):
        looked = "" if path.is_absolute() else f" (looked in {Path.cwd()})"
        raise UserError(f"there is no file {place}{looked}: check the path.")
    return path.resolve()


def _code_of_module(name: str, reference: str, workspace: Workspace) -> Code | None:
    """Return the code of a module; None for one without a file, such as those that are built in."""
    top = name.partition(".")[0]
    own = {top} if PathFinder.find_spec(top, workspace.roots) else ()
    try:
        with foreign(reference, limited=True), workspace.entered(own):
            spec = importlib.util.find_spec(name)
    except Exception as error:
        raise _failed(reference, error) from error
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        return None
    return code_of(Path(spec.origin), workspace.roots, name)


def _import_file(path: Path, reference: str) -> ModuleType:
    if path.suffix != ".py":
        raise UserError(f"cannot import {reference}: {path.name} is not a Python file.")
    refuse_shared_file(path, reference)
    workspace = workspace_of(path.parent)
    code = code_of(path, workspace.roots)
    with workspace.entered(code.packages(workspace.folder)):
        if path in workspace.files:
            refuse_stale(code)
            return workspace.files[path]
        content = hashlib.sha256(f"{path}{code.fingerprint}".encode()).hexdigest()
        name = f"kdbench_factory_{path.stem}_{content[:12]}"
        spec = importlib.util.spec_from_file_location(name, path, loader=Loader(name, str(path), workspace))
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        # Dataclasses and pickle look a module up by its name while it is being imported.
        sys.modules[name] = module
        try:
            with foreign(reference, limited=True):
                spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[name]
            raise _failed(reference, error) from error
        workspace.files[path] = module
        refuse_stale(code)
    return module


def _import_module(place: str, reference: str) -> ModuleType:
    folder, name = _module_place(place) or (Path.cwd(), place)
    workspace = workspace_of(folder)
    refuse_library_module(name, reference, workspace)
    code = _code_of_module(name, reference, workspace)
    if code:
        refuse_shared_file(code.file, reference)
    try:
        with workspace.entered(code.packages(workspace.folder) if code else ()):
            with foreign(reference, limited=True):
                module = importlib.import_module(name)
            if code:
                refuse_stale(code)
            return module
    except UserError:
        raise
    except Exception as error:
        raise _failed(reference, error) from error


def _failed(reference: str, error: Exception) -> UserError:
    reason = in_words(error)
    return UserError(
        f"cannot import {reference} ({type(error).__name__}: {reason}): mend it or check the name."
    )
