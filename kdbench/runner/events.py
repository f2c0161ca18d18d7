"""What works tell while they are carried out elsewhere: events, who sends them, and who shows them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kdbench.progress import Progress

# Shares of epochs that add up to a whole one may lack this.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Event:
    """What a work tells: that a stage begins, how many epochs are done, a note, a warning, or its end.

    ``begin`` is the executor's own: so many processes work from now on, whose progress is to be shown.
    """

    kind: Literal["begin", "stage", "epoch", "note", "warning", "done"]
    work: str
    content: Any = None


Tell = Callable[[Event], None]


class Relay(Progress):
    """Passes on what happens in another process as events.

    Epochs count for the work where its students train; those of an assistant, or of a teacher, do not.
    """

    def __init__(self, tell: Tell) -> None:
        """Take who is told."""
        self._tell = tell
        self._work = ""
        self._before = 0.0  # epochs of the cohorts before this one
        self._epochs = 0.0  # of this one
        self._trained = 0.0  # the share of the cohort's students that earlier stages trained
        self._share = 0.0  # that of the next stage, or of this one
        self._counts = False

    def turn_to(self, work: str) -> None:
        """Tell of this work from now on."""
        self._work, self._before, self._epochs = work, 0.0, 0.0
        self._trained = self._share = 0.0

    def cohort(self, number: int, label: str) -> None:
        """Count the epochs of the cohort that begins on top of those of the last one."""
        self._before += self._epochs * self._trained
        self._epochs = self._trained = self._share = 0.0

    def part(self, training: int, of: int) -> None:
        """Keep the share of the cohort's students that the next stage trains."""
        self._share = training / of

    def begin(self, label: str, total: int, unit: str) -> None:
        """Pass the stage on."""
        self._counts = self._share > 0
        if self._counts:
            self._epochs = float(total)
        if self._work:
            self._tell(Event("stage", self._work, label))

    def advance(self, done: float, detail: str = "") -> None:
        """Pass on how many epochs are done, where the stage is one of students that train."""
        if self._counts:
            reached = self._before + self._trained * self._epochs + self._share * done
            self._tell(Event("epoch", self._work, math.floor(reached + ROUNDING)))

    def end(self, summary: str = "") -> None:
        """Count the stage's share as trained."""
        if self._counts:
            self._trained += self._share
            self._share, self._counts = 0.0, False

    def note(self, text: str) -> None:
        """Pass a note on."""
        self._tell(Event("note", self._work, text))

    def warn(self, text: str) -> None:
        """Pass a warning on."""
        self._tell(Event("warning", self._work, text))


class Follower:
    """Shows the progress of works that are carried out elsewhere, from what they tell."""

    def __init__(self, works: Mapping[str, tuple[str, int]], progress: Progress) -> None:
        """Take label and epochs of the works, by id, and who shows it."""
        self._labels = {id: label for id, (label, _) in works.items()}
        self._epochs = {id: epochs for id, (_, epochs) in works.items()}
        self._done = dict.fromkeys(self._epochs, 0)
        self._progress = progress
        self._begun = False

    def tell(self, event: Event) -> None:
        """Show an event; those of works that show their own progress only end them."""
        if event.kind == "note":
            self._progress.note(event.content)
        elif event.kind == "warning":
            self._progress.warn(event.content)
        elif event.kind == "begin":
            self._begin(event.content)
        elif self._begun:
            detail = ""
            if event.kind == "done":
                self._done[event.work] = self._epochs[event.work]
            elif event.kind == "epoch":
                self._done[event.work] = event.content
            else:
                detail = f"{self._labels[event.work]}: {event.content}"
            self._progress.advance(sum(self._done.values()), detail)

    def end(self) -> None:
        """End the stage."""
        if self._begun:
            self._progress.end()

    def _begin(self, processes: int) -> None:
        self._begun = True
        count = len(self._epochs)
        self._progress.begin(f"{count} cohorts in {processes} processes", sum(self._epochs.values()), "epoch")
