"""What a run tells while it works; the command line draws it, a program may listen to it."""

from __future__ import annotations


class Progress:
    """Listens to a run and stays silent; a subclass overrides what it wants to show.

    A stage is a piece of work with a known number of units (epochs, models). Stages do not nest.
    """

    def plan(self, cohorts: int, cells: int, done: int, failed: int = 0, skipped: int = 0) -> None:
        """Say what there is to do: how many of ``cells`` cells were finished, failed or skipped before."""

    def cohort(self, number: int, label: str) -> None:
        """Say that cohort ``number`` (from 1) begins."""

    def begin(self, label: str, total: int, unit: str) -> None:
        """Begin a stage of ``total`` units."""

    def advance(self, done: int, detail: str = "") -> None:
        """Say that ``done`` units of the stage are finished."""

    def end(self, summary: str = "") -> None:
        """End the stage."""

    def note(self, text: str) -> None:
        """Tell something worth knowing."""

    def warn(self, text: str) -> None:
        """Tell something that may make the results useless."""
