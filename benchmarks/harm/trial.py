"""One bad input being tried: what is written, the commands that take it, and how these may end."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harm.commands import Place, forked
from harm.fixtures import RUN, WORK, Fixtures
from harm.outcome import Outcome, judge_end
from harm.surroundings import changes, make_victim, state

# From the folder of the commands to what must stay as it is.
OUTSIDE = "../victim"
# So long a user's code may take; to a command that knows no such limit the option is a mistake.
PATIENCE = ("--code-timeout", "4")
SUITE = "suite.yaml"
# A suite without any fault, which takes two seconds; a bad input takes the place of a part of it.
SOUND = {
    "name": "s",
    "dataset": {"name": "digits", "args": {"limit": 100, "limit_test": 60}},
    "teachers": ["mlp_16"],
    "students": ["mlp_4"],
    "methods": ["scratch", "kd"],
    "seeds": [0],
    "recipe": {"epochs": 1},
    "measure": {"latency": False},
}
Prepare = Callable[[Path, Fixtures], object]


@dataclass(frozen=True)
class Trial:
    """One bad input of a group.

    ``files`` are written into the folder of the commands, then ``prepare`` is called with it. Each command
    must end with one of the ``statuses``: 2 where a request is wrong, 1 where something in it is, 0 only for
    what may be harmless. Beside RUN and the folder for temporary files nothing may be written but ``made``.
    """

    group: str
    label: str
    commands: tuple[tuple[str, ...], ...]
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    prepare: Prepare | None = None
    statuses: tuple[int, ...] = (2,)
    made: tuple[str, ...] = ()
    limit_s: float = 20.0

    @property
    def name(self) -> str:
        return f"inputs/{self.group}/{self.label}"

    def carry_out(self, fixtures: Fixtures, folder: Path) -> Outcome:
        """Write the input and let the commands loose on it."""
        outcome = Outcome("inputs", self.name, " ; ".join(" ".join(words)[:120] for words in self.commands))
        shutil.rmtree(folder, ignore_errors=True)
        make_victim(folder)
        work = folder / WORK
        work.mkdir()
        for name, content in self.files.items():
            file = work / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(
                content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
            )
        if self.prepare:
            self.prepare(work, fixtures)
        own = [f"{WORK}/{name}" for name in (RUN, "tmp", *self.made)]
        before = state(folder, own)
        place = Place(work)
        for words in self.commands:
            ended = forked(words, place, limit_s=self.limit_s, draw=words[0] == "report")
            judge_end(outcome, ended, words[0], self.statuses)
        for change in changes(before, state(folder, own)):
            outcome.add("written outside", change)
        place.end_processes()
        if not outcome.faults:
            shutil.rmtree(folder)
        return outcome
