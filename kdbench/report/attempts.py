"""The parts of a report, each made such that its failure is named and leaves the others alone."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from kdbench.code.foreign import foreign

P = ParamSpec("P")
Made = TypeVar("Made")


@dataclass(frozen=True)
class Broken:
    """A part that could not be made: its name, the exception in one line, and where it came from."""

    part: str
    reason: str
    trace: str

    def __str__(self) -> str:
        """Return what a reader is told."""
        return f"{self.part} could not be made ({self.reason})"


class Attempts:
    """Calls what makes the parts, and keeps what went wrong."""

    def __init__(self) -> None:
        """Start with nothing broken."""
        self.broken: list[Broken] = []

    def make(
        self, part: str, otherwise: Made, make: Callable[P, Made], *args: P.args, **fields: P.kwargs
    ) -> Made:
        """Return what ``make`` makes, or ``otherwise`` where it raises, and keep that."""
        try:
            with foreign(part):
                return make(*args, **fields)
        except Exception as error:  # whatever it is: it is told, and the other parts are needed all the more
            self.failed(part, error)
            return otherwise

    def failed(self, part: str, error: Exception) -> Broken:
        """Keep that a part could not be made, and return it."""
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        self.broken.append(Broken(part, reason, "".join(traceback.format_exception(error))))
        return self.broken[-1]

    @property
    def traces(self) -> str:
        """The tracebacks of all failures, each under the name of its part."""
        return "\n".join(f"{broken.part}\n{broken.trace}" for broken in self.broken)
