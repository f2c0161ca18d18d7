"""The registries of what a report is made of: its sections, and its figures. To add one, add a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdbench.analysis.summary import Summary
from kdbench.registry import Registry
from kdbench.report.blocks import Block

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# After what is measured and tested, before the figures.
USERS = 300

Make = Callable[[Summary], Iterable[Block]]
Words = Callable[[Summary], str]
Draw = Callable[[Summary], "Figure"]


@dataclass(frozen=True)
class Section:
    """A registered section: the names of the ``files`` that it may write, and what makes its blocks."""

    name: str
    order: int
    files: tuple[str, ...]
    interactive: bool
    make: Make


@dataclass(frozen=True)
class Drawing:
    """A registered figure: what it shows, what its marks mean, and what draws it."""

    name: str
    order: int
    title: Words
    caption: Words
    draw: Draw


SECTIONS: Registry[Section] = Registry("report section", home="kdbench.report.sections")
FIGURES: Registry[Drawing] = Registry("figure", home="kdbench.report.figures")


def section(
    name: str, *, order: int = USERS, files: tuple[str, ...] = (), interactive: bool = False
) -> Callable[[Make], Make]:
    """Register the decorated function of a `Summary` as a section, whose blocks it returns or yields.

    Sections stand in the order of their numbers. One that has nothing to say has no blocks. An
    ``interactive`` one is left out of a lean page.
    """

    def register(function: Make) -> Make:
        SECTIONS.add(name, Section(name, order, files, interactive, function), function)
        return function

    return register


def drawing(name: str, *, order: int = USERS, title: Words, caption: Words) -> Callable[[Draw], Draw]:
    """Register the decorated function of a `Summary` as a figure, in files of this name.

    The summary is of one teacher and holds at least one measured student; the function raises NothingToDraw,
    with the reason, where the run has no data for the figure.
    """

    def register(function: Draw) -> Draw:
        FIGURES.add(name, Drawing(name, order, title, caption, function), function)
        return function

    return register


def sections(further: Sequence[str] = ()) -> list[Section]:
    """Return every section in its order, with ``further`` ones of a user's own files: ``path/file.py:name``.

    Raises UserError for one of these that is not there or is no section.
    """
    members = {**SECTIONS.all(), **{entry.name: entry for entry in map(SECTIONS.find, further)}}
    return sorted(members.values(), key=lambda entry: (entry.order, entry.name))


def drawings() -> dict[str, Drawing]:
    """Return every figure by name, in the order of the report."""
    return dict(sorted(FIGURES.all().items(), key=lambda item: (item[1].order, item[0])))
