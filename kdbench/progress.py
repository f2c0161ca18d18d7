"""What a run tells while it works; the command line draws it, a program may listen to it."""

from __future__ import annotations

from types import TracebackType


class Progress:
    """Listens to a run and stays silent; a subclass overrides what it wants to show.

    A stage is a piece of work with a known number of units (epochs, models). Stages do not nest.
    """

    def plan(self, cohorts: int, cells: int, done: int, failed: int = 0, skipped: int = 0) -> None:
        """Say what there is to do: how many of ``cells`` cells were finished, failed or skipped before."""

    def cohort(self, number: int, label: str) -> None:
        """Say that cohort ``number`` (from 1) begins."""

    def part(self, training: int, of: int) -> None:
        """Say that the next stage trains so many of the students of a cohort that wait."""

    def trained(self) -> None:
        """Say that all cohorts are trained."""

    def begin(self, label: str, total: int, unit: str) -> None:
        """Begin a stage of ``total`` units."""

    def advance(self, done: float, detail: str = "") -> None:
        """Say that ``done`` units of the stage are finished, the last of them perhaps in part."""

    def end(self, summary: str = "") -> None:
        """End the stage."""

    def note(self, text: str) -> None:
        """Tell something worth knowing."""

    def warn(self, text: str) -> None:
        """Tell something that may make the results useless."""


class Steps:
    """A stage whose units are told one at a time: ``with Steps(...) as steps``, then ``steps.step()``.

    One of no units is not told of.
    """

    def __init__(self, progress: Progress, label: str, total: int, unit: str) -> None:
        """Take what the stage is, and how many units it has."""
        self._progress = progress if total else Progress()
        self._stage = label, total, unit
        self._done = 0

    def __enter__(self) -> Steps:
        """Begin the stage."""
        self._progress.begin(*self._stage)
        return self

    def step(self, detail: str = "") -> None:
        """Say that one more unit is finished."""
        self._done += 1
        self._progress.advance(self._done, detail)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the stage, unless it was broken off."""
        if kind is None:
            self._progress.end()
