"""What became of one case: the faults that were found, each counted under the name of its kind."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from harm.commands import Ended

# The columns of the table, and what each counts.
KINDS = {
    "lost": "a finished cell has no record any more, or another one",
    "doubled": "a finished cell, or a finished measurement, was done again",
    "different": "an id, a quality column, weights or logits are not those of the undisturbed run",
    "blessed": "what is damaged or senseless was accepted, or a wrong result given as right",
    "hung": "no end within the limit of time or memory",
    "tracebacks": "a traceback, or an exception's name, in place of a line",
    "written outside": "something was written, or foreign code ran, where it must not",
    "refused": "the command that was killed is refused when it is given again",
    "orphans": "a process lives on after kdbench was killed or has ended",
    "left behind": "temporary files that the run which went to its end has left",
    "unclear": "another exit status than 1 or 2, no line or many, control characters",
}
TRACEBACK = "Traceback (most recent call last)"
# An exception whose name alone stands where a sentence should.
BARE = re.compile(r"^(?:error: )?(?:[a-z_]+\.)*[A-Z]\w+(?:Error|Exception)\b", re.MULTILINE)
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
MOST_LINES = 6
MOST_CHARACTERS = 3000


@dataclass(frozen=True)
class Fault:
    """One thing that went wrong: the column that counts it, and what was seen."""

    kind: str
    text: str

    def __post_init__(self) -> None:
        """Refuse a kind that the table would not count."""
        assert self.kind in KINDS, self.kind


@dataclass
class Outcome:
    """What became of one case, which stands for ``tried`` attempts (kills, commands)."""

    part: str
    name: str
    about: str
    tried: int = 1
    faults: list[Fault] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, kind: str, text: str) -> None:
        """Count a fault; what was seen is kept on one printable line."""
        line = CONTROL.sub("�", " ".join(text.split()))
        self.faults.append(Fault(kind, line if len(line) <= 400 else f"{line[:200]} … {line[-200:]}"))

    def count(self, kind: str) -> int:
        return sum(fault.kind == kind for fault in self.faults)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, content: dict[str, Any]) -> Outcome:
        """Return an outcome from what `as_json` gave."""
        return cls(**content | {"faults": [Fault(**fault) for fault in content["faults"]]})


def judge_end(outcome: Outcome, ended: Ended, what: str, statuses: Iterable[int] = (0, 1, 2)) -> bool:
    """Count what is wrong with the way in which a command ended; return whether it ended as it should.

    It should end within its limits, with one of the statuses, and if that is not 0 with a few lines on
    standard error or output that say why: printable, without a traceback.
    """
    before = len(outcome.faults)
    text = ended.output + ended.error
    if ended.over:
        outcome.add("hung", f"{what}: {ended.over}")
    elif TRACEBACK in text or BARE.search(ended.error):
        outcome.add("tracebacks", f"{what}: {ended.last_lines()}")
    elif ended.status not in statuses:
        kind = "blessed" if ended.status == 0 else "unclear"
        outcome.add(kind, f"{what}: exit status {ended.status}: {ended.last_lines() or 'and no word'}")
    elif ended.status:
        lines = [line for line in ended.error.splitlines() if line.strip()]
        if not text.strip():
            outcome.add("unclear", f"{what}: exit status {ended.status} and no word")
        elif len(lines) > MOST_LINES or len(ended.error) > MOST_CHARACTERS:
            outcome.add("unclear", f"{what}: {len(lines)} lines, {len(ended.error)} characters of error")
    if not ended.over and (sign := CONTROL.search(text)):
        outcome.add("unclear", f"{what}: {sign[0]!r} is printed: {ended.last_lines()}")
    return len(outcome.faults) == before
