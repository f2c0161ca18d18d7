"""Functions that a person's own code provides: ``package.module:name`` and ``path/file.py:name``."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from kdbench.errors import UserError, nearest


def load_factory(reference: str) -> Callable[..., Any]:
    """Import and return the callable that ``package.module:name`` or ``path/file.py:name`` names.

    Both are found from the current directory too; while a file is imported, so are the modules beside
    it. A file that was not changed is imported once; settings of torch that it changes are set back. Raises
    UserError for a missing file or module, an import that fails (with the exception's text), or a name that
    is not there (with the nearest one).
    """
    place, name = _parse(reference)
    from kdbench.shared_state import kept_settings

    with kept_settings():
        module = (
            _import_file(_file(place), reference) if _is_file(place) else _import_module(place, reference)
        )
    found = getattr(module, name, None)
    if callable(found):
        return found
    public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
    hint = nearest(name, public) or (f" It has: {', '.join(sorted(public))}." if public else "")
    fault = "no" if found is None else "no function or class"
    raise UserError(f"there is {fault} '{name}' in {place}.{hint}")


def factory_fingerprint(reference: str) -> str:
    """Return the SHA-256, in hexadecimal, of the source file that a factory stands in, without importing it.

    Raises UserError where there is no such file.
    """
    place, _ = _parse(reference)
    path = _file(place) if _is_file(place) else _module_file(place, reference)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _parse(reference: str) -> tuple[str, str]:
    place, _, name = reference.rpartition(":")
    if not place or not name.isidentifier():
        raise UserError(f"'{reference}' is no factory: write package.module:name or path/file.py:name.")
    return place, name


def _is_file(place: str) -> bool:
    return place.endswith(".py") or "/" in place


def _file(place: str) -> Path:
    path = Path(place).expanduser()
    if not path.is_file():
        raise UserError(f"there is no file {place} (looked in {Path.cwd()}): check the path.")
    return path.resolve()


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let modules in ``folder`` be imported for a while, as Python does for a script's own folder."""
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _import_file(path: Path, reference: str) -> ModuleType:
    content = hashlib.sha256(str(path).encode() + path.read_bytes()).hexdigest()
    name = f"kdbench_factory_{path.stem}_{content[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"cannot import {reference}: {path.name} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickle look a module up by its name while it is being imported.
    sys.modules[name] = module
    try:
        with _importable(path.parent):
            spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise _failed(reference, error) from error
    return module


def _import_module(name: str, reference: str) -> ModuleType:
    try:
        with _importable(Path.cwd()):
            return importlib.import_module(name)
    except Exception as error:
        raise _failed(reference, error) from error


def _module_file(name: str, reference: str) -> Path:
    try:
        with _importable(Path.cwd()):
            spec = importlib.util.find_spec(name)
    except Exception as error:
        raise _failed(reference, error) from error
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise UserError(f"cannot find the source of {reference}: there is no file for the module {name}.")
    return Path(spec.origin)


def _failed(reference: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split())
    return UserError(
        f"cannot import {reference} ({type(error).__name__}: {reason}): mend it or check the name."
    )
