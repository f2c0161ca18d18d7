"""A user's folder and the modules of it that were imported, apart from those of the same name elsewhere.

Two files in different folders may each import a ``helper``. Python knows one module of that name; here each
folder has its own, and whatever code of a folder imports, at once or later in a function, is the folder's.
"""

from __future__ import annotations

import builtins
import hashlib
import sys
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from kdbench.code.imports import Code, imports_of, spec_of_python
from kdbench.errors import SharedFault

_LOCK = threading.RLock()
_WORKSPACES: dict[Path, Workspace] = {}
_IMPORTED: dict[Path, str] = {}


def workspace_of(folder: Path) -> Workspace:
    """Return the workspace of a folder: a new one where a file was changed that the last one has imported."""
    with _LOCK:
        if _FINDER not in sys.meta_path:
            sys.meta_path.insert(0, _FINDER)
        workspace = _WORKSPACES.get(folder)
        if workspace is None or workspace.outdated():
            roots = workspace.roots if workspace else [str(folder)]
            if workspace is not None:
                workspace.withdraw()  # the modules of the old files
            workspace = _WORKSPACES[folder] = Workspace(folder, roots)
        return workspace


def refuse_stale(code: Code) -> None:
    """Raise SharedFault where a module of the code, imported by Python itself, is not what its file says now.

    Modules of a workspace are imported anew; those that the program has from elsewhere, or that are its own,
    cannot be. What they were is what they are when this is called first.
    """
    for name, path in code.modules.items():
        module = sys.modules.get(name)
        loader = module.__spec__.loader if module is not None and module.__spec__ else None
        if module is None or isinstance(loader, Loader) or getattr(module, "__file__", None) != str(path):
            continue
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if _IMPORTED.setdefault(path, digest) != digest:
            raise SharedFault(f"{path} changed since this process imported it: start Python anew to run it.")


class Workspace:
    """The modules of one folder; ``roots`` are the folder and what its code adds to ``sys.path``."""

    def __init__(self, folder: Path, roots: Sequence[str]) -> None:
        """Begin with nothing imported."""
        self.folder = folder
        self.roots = list(roots)
        self.files: dict[Path, ModuleType] = {}
        self._modules: dict[str, ModuleType] = {}
        self._names: set[str] = set()
        self._digests: dict[Path, str] = {}
        self._displaced: dict[str, ModuleType] = {}
        self._own: set[str] = set()
        self._usual_path: list[str] = []

    def outdated(self) -> bool:
        """Return whether a file that was imported is no longer what it was."""
        return any(
            not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest
            for path, digest in self._digests.items()
        )

    @contextmanager
    def entered(self, packages: Collection[str] = ()) -> Iterator[None]:
        """Let imports find the modules of this folder first, as Python does for a script's own folder.

        ``packages`` are top-level names that must be this folder's, whatever was imported under them from
        elsewhere. Afterwards the folder's modules can still be imported by the names that nothing else has,
        until another folder's turn comes.
        """
        with _LOCK:
            self._own.update(packages)
            outer, was_inside = _FINDER.current, _FINDER.inside
            if outer is self and was_inside:
                self._put_in()
                yield
                return
            if outer is not None and outer is not self:
                outer._take_out() if was_inside else outer.withdraw()
            before = self._usual_path = list(sys.path)
            self._put_in()
            _FINDER.current, _FINDER.inside = self, True
            sys.path[:0] = self.roots
            try:
                yield
            finally:
                self._note_roots()
                sys.path[:] = before
                self._take_out()
                _FINDER.inside = was_inside
                if was_inside and outer is not None:
                    _FINDER.current = outer
                    outer._put_in()
                else:
                    for name, module in self._modules.items():
                        sys.modules.setdefault(name, module)

    def withdraw(self) -> None:
        """Take this folder's modules out of those that Python knows."""
        for name, module in self._modules.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]

    def import_(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """Import as ``__import__`` does, from this folder first."""
        with self.entered():
            return builtins.__import__(name, globals, locals, fromlist or (), level)

    def spec(self, name: str, path: Sequence[str] | None, first: bool) -> ModuleSpec | None:
        """Return where this folder has a module, or None; ``first``: even where Python itself finds one."""
        if path is None:
            if first:
                self._note_roots()
            spec = PathFinder.find_spec(name, self.roots)
            if spec is None or ((not first or spec.origin is None) and spec_of_python(name)):
                return None
        elif name.rpartition(".")[0] in self._names:
            spec = PathFinder.find_spec(name, path)
        else:
            return None
        if spec is not None:
            self._names.add(name)
            if isinstance(spec.loader, SourceFileLoader):
                spec.loader = Loader(name, spec.loader.path, self)
        return spec

    def _note_roots(self) -> None:
        earlier = {*self._usual_path, *self.roots}
        self.roots += [path for path in dict.fromkeys(sys.path) if path not in earlier]

    def _put_in(self) -> None:
        for package in self._own - self._names:
            if package in sys.modules and self._is_elsewhere(sys.modules[package]):
                for name in [name for name in sys.modules if f"{name}.".startswith(f"{package}.")]:
                    self._displaced[name] = sys.modules.pop(name)
        for name, module in self._modules.items():
            if sys.modules.get(name, module) is not module:
                self._displaced.setdefault(name, sys.modules[name])
            sys.modules[name] = module

    def _take_out(self) -> None:
        self._modules = {name: sys.modules[name] for name in self._names if name in sys.modules}
        for name in self._modules:
            del sys.modules[name]
        sys.modules.update(self._displaced)
        self._displaced.clear()

    def _is_elsewhere(self, module: ModuleType) -> bool:
        """Return whether a module is neither of this folder nor of the standard library."""
        file = getattr(module, "__file__", None)
        below = file is not None and Path(file).resolve().is_relative_to(self.folder)
        return not below and module.__name__ not in sys.stdlib_module_names


class Loader(SourceFileLoader):
    """Loads a file of a workspace."""

    def __init__(self, name: str, path: str, workspace: Workspace) -> None:
        """Take the module's name, its file and the workspace that it belongs to."""
        super().__init__(name, path)
        self._workspace = workspace

    def get_code(self, fullname: str) -> CodeType:
        """Compile the file, never a cached compilation: that of a file of this second and size may be old."""
        source = self.get_data(self.path)
        self._workspace._digests[Path(self.path)] = hashlib.sha256(source).hexdigest()
        return self.source_to_code(source, self.path)

    def exec_module(self, module: ModuleType) -> None:
        """Run the file; what it imports later, in functions, comes from the workspace as well."""
        lazy = (statement for statement in imports_of(Path(self.path)) if statement.lazy)
        if any(statement.module.partition(".")[0] not in sys.stdlib_module_names for statement in lazy):
            module.__dict__["__builtins__"] = {**vars(builtins), "__import__": self._workspace.import_}
        super().exec_module(module)


class _Finder:
    """Asks the workspace whose turn it is: before Python while its code is imported, and after it else."""

    of_users = True

    def __init__(self) -> None:
        self.current: Workspace | None = None
        self.inside = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return self.current.spec(fullname, path, first=self.inside) if self.current else None

    def invalidate_caches(self) -> None:
        """Nothing is kept here."""


_FINDER = _Finder()
