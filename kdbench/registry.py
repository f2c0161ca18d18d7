"""The registry: the members of one kind, found by where they lie and known by their names.

A member is one object (a class or a function) in a file of its kind's package, registered by the kind's own
decorator, which calls `Registry.add`. Nothing lists the files: they are imported when a name is first asked
for. Installed packages add members through entry points of the group ``kdbench.KINDS``, and a user names one
in a file of their own as ``path/file.py:Name`` or ``package.module:Name``.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, Generic, TypeVar

from kdbench.code.factory import is_importing, load_factory
from kdbench.code.foreign import foreign
from kdbench.errors import UserError, in_words, unknown

E = TypeVar("E")


class Registry(Generic[E]):
    """The members of one kind by name; an entry is what the kind's decorator makes of a member.

    >>> colours: Registry[str] = Registry("colour", home="kdbench.analysis")
    >>> colours.add("teal", "#008080", len)
    >>> colours.find("teal")
    '#008080'
    >>> colours.find("teel")
    Traceback (most recent call last):
        ...
    kdbench.errors.UserError: unknown colour 'teel'. Did you mean 'teal'?
    """

    def __init__(self, kind: str, *, home: str, check: Callable[[Any], str | None] | None = None) -> None:
        """Start without a member.

        Args:
            kind: the word for a member in messages; its plural names the entry points: ``kdbench.methods``.
            home: the package whose modules hold the members; one whose name opens with ``_`` is left alone.
            check: says what a member lacks, None where it lacks nothing.
        """
        self.kind = kind
        self.group = f"kdbench.{kind.replace(' ', '_')}s"
        self._home = home
        self._check = check
        self._named: dict[str, E] = {}
        self._members: dict[str, Any] = {}
        self._by_member: dict[Any, tuple[str, E]] = {}
        self._searched = False
        self._searching = False

    def add(self, name: str, entry: E, member: Any) -> None:
        """File an entry under its name.

        What a user's own file registers while it is imported for a reference is found by that reference
        alone, so that two files may each have a member of one name; not so what it imports of kdbench.

        Raises:
            UserError: where another member has the name, or this one lacks something, saying where it is.
        """
        fault = self._check(member) if self._check else None
        if fault:
            raise UserError(f"{self.kind} '{name}' ({place_of(member)}) {fault}.")
        self._by_member[member] = (name, entry)
        of_home = getattr(member, "__module__", "").startswith(f"{self._home}.")
        if is_importing() and not self._searching and not of_home:
            return
        if name in self._members and self._members[name] is not member:
            raise UserError(
                f"two {self.kind}s are called '{name}': {place_of(self._members[name])} and "
                f"{place_of(member)}. Rename one."
            )
        self._named[name], self._members[name] = entry, member

    def remove(self, name: str) -> None:
        """Forget a member; raises KeyError where there is none of that name."""
        del self._named[name]
        del self._by_member[self._members.pop(name)]

    def all(self) -> dict[str, E]:
        """Return every entry by name: file by file, in each from top to bottom, then those of packages."""
        self._search()
        return dict(self._named)

    def find(self, name: str) -> E:
        """Return an entry by the member's name, or by a reference to a member in a user's own code.

        Raises UserError with the nearest right name, and for a reference to what is no member or has the
        name of another one.
        """
        self._search()
        if name in self._named:
            return self._named[name]
        if ":" not in name:
            raise unknown(self.kind, name, self._named)
        member = load_factory(name)
        try:
            own, entry = self._by_member[member]
        except (KeyError, TypeError):
            raise UserError(
                f"'{name}' is no {self.kind}: {place_of(member)} is not registered as one by a decorator."
            ) from None
        if own in self._members and self._members[own] is not member:
            raise UserError(
                f"{self.kind} '{own}' of {place_of(member)} has the name of one at "
                f"{place_of(self._members[own])}: rename it."
            )
        return entry

    def _search(self) -> None:
        """Import the home's modules and the installed plug-ins, once."""
        if self._searched:
            return
        self._searched = self._searching = True
        try:
            home = importlib.import_module(self._home)
            for module in sorted(pkgutil.iter_modules(home.__path__), key=lambda module: module.name):
                if not module.name.startswith("_"):
                    importlib.import_module(f"{self._home}.{module.name}")
            for point in metadata.entry_points(group=self.group):
                with _named_if_it_fails(f"{self.kind} '{point.name}' of {_package(point)}"):
                    point.load()
        finally:
            self._searching = False


def place_of(member: Any) -> str:
    """Return where a class or function is defined: the file's name and the line, or what it is."""
    member = inspect.unwrap(member)
    try:
        file, (_, line) = inspect.getsourcefile(member), inspect.getsourcelines(member)
    except (TypeError, OSError):
        return repr(member)
    return f"{Path(file or '').name}:{line}"


def _package(point: metadata.EntryPoint) -> str:
    return f"package {point.dist.name}" if point.dist else point.value


@contextmanager
def _named_if_it_fails(what: str) -> Iterator[None]:
    try:
        with foreign(what, limited=True):
            yield
    except UserError:
        raise
    except Exception as error:  # an installed plug-in may raise anything while it is imported
        raise UserError(
            f"{what} cannot be imported: {type(error).__name__}: {in_words(error)}. Mend or uninstall it."
        ) from error
