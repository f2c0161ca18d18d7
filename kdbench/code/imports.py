"""The files that a user's code consists of: a module, what it imports, and what that imports in turn.

They are found by reading, so that nothing is run: ``import`` statements wherever they stand, also in
functions, and calls of ``import_module`` and ``__import__`` with a name that is written out. What is not
found: modules whose name is computed, and files that code reads as data. The standard library, installed
libraries and kdbench itself are no user's code.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from kdbench.store import canonical_json

_INSTALLED = {"site-packages", "dist-packages"}
_STANDARD = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")}
_CALLS = {"import_module", "__import__"}


@dataclass(frozen=True)
class Import:
    """One import: ``level`` is the number of leading dots; a ``lazy`` one stands in a function."""

    module: str
    names: tuple[str, ...]
    level: int
    lazy: bool


@dataclass(frozen=True)
class Code:
    """A file and the modules, by name, that it needs of the user's own."""

    file: Path
    modules: dict[str, Path]

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of the file where it is alone, else of its own and those of its modules by name.

        An empty module, such as many an ``__init__.py``, does nothing and counts for nothing.
        """
        own = hashlib.sha256(self.file.read_bytes()).hexdigest()
        contents = {name: path.read_bytes() for name, path in self.modules.items() if path != self.file}
        others = {
            name: hashlib.sha256(content).hexdigest() for name, content in contents.items() if content.strip()
        }
        if not others:
            return own
        return hashlib.sha256(canonical_json([own, others]).encode()).hexdigest()

    def packages(self, folder: Path) -> set[str]:
        """Return the top-level names that it finds in a folder."""
        below = (name for name, path in self.modules.items() if path.is_relative_to(folder))
        return {name.partition(".")[0] for name in below}


def code_of(file: Path, roots: Sequence[str], name: str | None = None) -> Code:
    """Return a file with the modules that it needs, which are looked for in ``roots`` before ``sys.path``.

    ``name`` is that of its module, by which it may import relatively; None for a file that is run as it is.
    A file that is no Python needs no other, and one that is a library's is not looked into.
    """
    if is_library(file) and name is not None:
        return Code(file, {})
    importlib.invalidate_caches()
    finder = _Finder(roots)
    modules: dict[str, Path] = {}
    waiting: list[tuple[Path, str | None]] = [(file, _package(file, name))]
    for parent in _prefixes(name or "")[:-1]:
        waiting += finder.add(parent, modules)
    while waiting:
        path, package = waiting.pop()
        for needed in imports_of(path):
            for imported in _names(needed, package):
                waiting += finder.add(imported, modules)
    return Code(file, dict(sorted(modules.items())))


def imports_of(path: Path) -> tuple[Import, ...]:
    """Return what a file imports; nothing for one that is no valid Python."""
    return _imports(path.read_bytes()) if path.suffix == ".py" else ()


def is_library(file: Path) -> bool:
    """Return whether a file belongs to the standard library or to an installed one."""
    resolved = file.resolve()
    return bool(_INSTALLED & set(resolved.parts)) or any(resolved.is_relative_to(at) for at in _STANDARD)


def spec_of_python(name: str) -> ModuleSpec | None:
    """Return where Python itself finds a top-level module, leaving aside the folders of users' files."""
    for finder in sys.meta_path:
        if hasattr(finder, "find_spec") and not getattr(finder, "of_users", False):
            spec = finder.find_spec(name, None)
            if spec is not None:
                return spec
    return None


@dataclass(frozen=True)
class _Place:
    """Where a module is: its file, None for a folder without ``__init__.py``; and where its parts are."""

    file: Path | None
    parts: list[str] | None

    @classmethod
    def of(cls, spec: ModuleSpec | None) -> _Place | None:
        """Return the place that a specification tells of; None where it is none, or no file."""
        if spec is None or (spec.origin is not None and not Path(spec.origin).is_file()):
            return None
        parts = spec.submodule_search_locations
        return cls(Path(spec.origin) if spec.origin else None, None if parts is None else list(parts))


class _Finder:
    """Finds the files of a user's modules, importing none."""

    def __init__(self, roots: Sequence[str]) -> None:
        self._roots = list(roots)
        self._places: dict[str, _Place | None] = {}

    def add(self, name: str, modules: dict[str, Path]) -> Iterator[tuple[Path, str]]:
        """Add a module to those that are needed; yield its file and package if it is new and a user's."""
        place = self._find(name)
        if place is None or place.file is None or name in modules:
            return
        modules[name] = place.file
        yield place.file, name if place.parts is not None else name.rpartition(".")[0]

    def _find(self, name: str) -> _Place | None:
        if name not in self._places:
            parent, _, tail = name.rpartition(".")
            self._places[name] = self._part(parent, tail) if parent else self._top(name)
        return self._places[name]

    def _top(self, name: str) -> _Place | None:
        if name == "kdbench":
            return None
        place = _Place.of(PathFinder.find_spec(name, self._roots))
        if place is not None and place.file is not None:
            return place
        spec = spec_of_python(name)
        elsewhere = _Place.of(spec)
        if spec is None or (elsewhere is not None and elsewhere.file is None):
            return place or elsewhere  # a folder without __init__.py, as nothing else has the name
        return _unless_library(elsewhere)

    def _part(self, package: str, name: str) -> _Place | None:
        parent = self._find(package)
        if parent is None or parent.parts is None:
            return None
        # By its last name: the whole one would need the package to be imported.
        return _unless_library(_Place.of(PathFinder.find_spec(name, parent.parts)))


def _unless_library(place: _Place | None) -> _Place | None:
    return None if place is None or (place.file is not None and is_library(place.file)) else place


def _package(file: Path, name: str | None) -> str | None:
    if name is None or file.name == "__init__.py":
        return name
    return name.rpartition(".")[0] or None


def _names(needed: Import, package: str | None) -> Iterator[str]:
    """Yield the modules that an import may load: packages before what is in them."""
    base = needed.module
    if needed.level:
        parts = package.split(".") if package else []
        if needed.level > len(parts):
            return
        base = ".".join([*parts[: len(parts) - needed.level + 1], *filter(None, [base])])
    yield from _prefixes(base)
    for name in needed.names:
        yield f"{base}.{name}"


def _prefixes(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


@lru_cache(maxsize=1024)
def _imports(source: bytes) -> tuple[Import, ...]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return ()  # importing the file says what is wrong with it
    reader = _Reader()
    reader.visit(tree)
    return tuple(reader.imports)


class _Reader(ast.NodeVisitor):
    """Collects the imports of a file."""

    def __init__(self) -> None:
        self.imports: list[Import] = []
        self._functions = 0

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self._add(node.module or "", tuple(alias.name for alias in node.names), node.level)

    def visit_Call(self, node: ast.Call) -> None:
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        first = node.args[0] if node.args else None
        if called in _CALLS and isinstance(first, ast.Constant) and isinstance(first.value, str):
            name = first.value.lstrip(".")
            self._add(name, level=len(first.value) - len(name))
        self.generic_visit(node)

    def _function(self, node: ast.AST) -> None:
        self._functions += 1
        self.generic_visit(node)
        self._functions -= 1

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = _function

    def _add(self, module: str, names: tuple[str, ...] = (), level: int = 0) -> None:
        self.imports.append(Import(module, names, level, self._functions > 0))
