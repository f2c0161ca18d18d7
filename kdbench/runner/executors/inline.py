"""``inline``: one work after the other in this process."""

from __future__ import annotations

from collections.abc import Sequence

from kdbench.runner.events import Tell
from kdbench.runner.works import Work, executor


@executor("inline", title="one cohort after the other in this process")
class Inline:
    """Carries works out where it is called."""

    def __init__(self, jobs: int) -> None:
        """Take no notice of the number of jobs: there is one process."""

    def run(self, works: Sequence[Work], tell: Tell) -> None:
        """Carry out each work in turn."""
        for work in works:
            work.carry_out(tell)
