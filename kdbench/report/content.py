"""What a report says, before it takes a form: its sections, made one by one, in their order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from kdbench.analysis.summary import Summary
from kdbench.report.attempts import Attempts
from kdbench.report.blocks import Block, File, Plate, Plates, Points, Shown, Title
from kdbench.report.registry import Section, sections
from kdbench.report.table import Table

# Where the faults of a report are told whose own place for them is the fault.
FAULTS = "faults"


@dataclass(frozen=True)
class Part:
    """What stands under one title; ``name`` is that of its section, with a number where it has several."""

    name: str
    title: str
    blocks: tuple[Shown, ...]


@dataclass(frozen=True)
class Content:
    """A report: its title, what it opens with, its parts in their order, and the tables beside it.

    ``files`` are these tables by the names of their files, ``absent`` the names of those that the run does
    not have or that could not be made.
    """

    title: str
    opening: tuple[Shown, ...]
    parts: tuple[Part, ...]
    files: Mapping[str, Table]
    absent: tuple[str, ...]

    def part(self, name: str) -> Part | None:
        """Return the part of a name, None where the report has none."""
        return next((part for part in self.parts if part.name == name), None)


def gather(
    summary: Summary,
    plates: Iterable[Plate] = (),
    attempts: Attempts | None = None,
    *,
    further: Sequence[str] = (),
    interactive: bool = True,
) -> Content:
    """Return what the report of a run says; of a section that cannot be made ``attempts`` keeps the reason.

    ``further`` are sections of a user's own files; without ``interactive`` those that can be clicked are left
    out. Raises UserError for a further section that there is not.
    """
    attempts = attempts or Attempts()
    wanted = [entry for entry in sections(further) if interactive or not entry.interactive]
    by_section = {
        entry: attempts.make(f"the section '{entry.name}'", (), _blocks, entry, summary) for entry in wanted
    }
    every = [block for blocks in by_section.values() for block in blocks]
    files = {block.name: block.table for block in every if isinstance(block, File)}
    drawn, faults = tuple(plates), tuple(f"{broken}." for broken in attempts.broken)
    opening: list[Shown] = []
    parts: list[Part] = []
    for entry, blocks in by_section.items():
        for part in _parts(entry.name, blocks):
            shown = tuple(_filled(block, drawn, faults) for block in part.blocks)
            if not part.title and not parts:
                opening += shown
            else:
                parts.append(replace(part, blocks=shown))
    if faults and not any(isinstance(b, Points) and b.faults for part in parts for b in part.blocks):
        parts.insert(0, Part(FAULTS, "What could not be made", (Points((), faults),)))
    manifest = summary.manifest
    return Content(
        title=f"{manifest['suite']}: knowledge distillation on {manifest['dataset']}",
        opening=tuple(opening),
        parts=tuple(parts),
        files=files,
        absent=tuple(name for entry in wanted for name in entry.files if name not in files),
    )


def _blocks(entry: Section, summary: Summary) -> tuple[Block, ...]:
    return tuple(entry.make(summary))


def _parts(name: str, blocks: Iterable[Block]) -> Iterator[Part]:
    """Yield what stands before the first title of a section, where anything does, and under each title."""
    title, count = "", 0
    shown: list[Shown] = []

    def part() -> Part:
        return Part(name if count < 2 else f"{name}-{count}", title, tuple(shown))

    for block in blocks:
        if isinstance(block, Title):
            if shown:
                yield part()
            title, shown, count = block.text, [], count + 1
        elif not isinstance(block, File):
            shown.append(block)
    if shown:
        yield part()


def _filled(block: Shown, plates: tuple[Plate, ...], faults: tuple[str, ...]) -> Shown:
    """Return a block with what only the whole report knows."""
    if isinstance(block, Plates):
        return Plates(plates)
    if isinstance(block, Points) and block.faults:
        return replace(block, warnings=(*block.warnings, *faults))
    return block
