"""How a run looks in a terminal: bars with the time left, or plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as Bars
from rich.text import Text

from kdbench.printable import printable
from kdbench.progress import Progress

Clock = Callable[[], float]

# A stage that has nothing to tell at its end leaves a line only if it took longer.
QUICK_S = 2.0
# How often a stage says how far it is where no bar can be drawn.
LINES_S = 60.0


class Pace:
    """How fast units get done, and how long the rest of them takes at that pace.

    The pace is that since the first report, whose units may have been done before (a run that goes on); where
    it is the first unit's, that since the beginning. None before.
    """

    def __init__(self, total: float, clock: Clock) -> None:
        """Begin with ``total`` units to do."""
        self.began = clock()
        self._total = total
        self._clock = clock
        self._first: tuple[float, float] | None = None
        self._ends: float | None = None

    def reached(self, done: float) -> None:
        """Take in that so many units are done."""
        now = self._clock()
        if self._first is None:
            self._first = now, done
        since, before = (self.began, 0.0) if self._first == (now, done) and done <= 1 else self._first
        if done > before:
            self._ends = now + (now - since) / (done - before) * (self._total - done)

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return self._clock() - self.began

    @property
    def left(self) -> float | None:
        """Seconds until the last unit is done."""
        return None if self._ends is None else max(0.0, self._ends - self._clock())


def as_duration(seconds: float | None) -> str:
    """Return seconds as hours, minutes and seconds, dashes where they are not known.

    >>> as_duration(3723.4), as_duration(59.6), as_duration(None)
    ('1:02:03', '0:01:00', '-:--:--')
    """
    if seconds is None:
        return "-:--:--"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


class _Left(ProgressColumn):
    """The time left by the pace of a task."""

    def render(self, task: Task) -> Text:
        return Text(f"left {as_duration(task.fields['pace'].left)}", style="progress.remaining")


class ConsoleProgress(Progress):
    """Draws one bar for the cohorts of the run and one for the stage at work."""

    def __init__(self, console: Console, clock: Clock = time.monotonic) -> None:
        """Draw on a console; without a terminal each finished stage is one line, a long one several."""
        self._console = console
        self._clock = clock
        self._bars = Bars(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeElapsedColumn(),
            _Left(),
            TextColumn("{task.fields[detail]}", markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._run: TaskID | None = None
        self._run_pace = Pace(0, clock)
        self._stage: TaskID | None = None
        self._pace = Pace(0, clock)
        self._stage_words = ("", 0, "")
        self._said = 0.0
        self._cohort = ""

    def __enter__(self) -> ConsoleProgress:
        """Start drawing."""
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop drawing and leave the terminal clean."""
        self._bars.stop()

    def plan(self, cohorts: int, cells: int, done: int, failed: int = 0, skipped: int = 0) -> None:
        """Print what there is to do."""
        counts = {
            "finished before": done,
            "failed before (--retry-failed runs them again)": failed,
            "skipped": skipped,
        }
        before = "".join(f", {count} {what}" for what, count in counts.items() if count)
        self._say(f"{cells} cells in {_count(cohorts, 'cohort')}{before}")
        if done + failed + skipped < cells:
            self._run_pace = Pace(cohorts, self._clock)
            self._run = self._bars.add_task(
                "run", total=cohorts, unit="cohorts", detail="", pace=self._run_pace
            )

    def cohort(self, number: int, label: str) -> None:
        """Move the bar of the run on."""
        self._cohort = f"cohort {number} ({label}): "
        if self._run is not None:
            self._run_pace.reached(number - 1)
            self._bars.update(self._run, completed=number - 1)

    def trained(self) -> None:
        """Take away the bar of the run: what follows is not of a cohort."""
        self._cohort = ""
        if self._run is not None:
            self._bars.remove_task(self._run)
            self._run = None

    def begin(self, label: str, total: int, unit: str) -> None:
        """Begin the bar of a stage."""
        label = printable(label)
        self._stage_words = (label, total, unit)
        self._pace = Pace(total, self._clock)
        self._said = self._pace.began
        self._stage = self._bars.add_task(label, total=total, unit=_plural(unit), detail="", pace=self._pace)

    def advance(self, done: float, detail: str = "") -> None:
        """Move the bar of the stage on; without a terminal, now and then print how far it is."""
        if self._stage is None:
            return
        self._pace.reached(done)
        self._bars.update(self._stage, completed=done, detail=printable(detail))
        if not self._console.is_terminal and self._clock() - self._said >= LINES_S:
            self._said = self._clock()
            label, total, unit = self._stage_words
            reached = f"{int(done)} of {_count(total, unit)}, {as_duration(self._pace.elapsed)} gone"
            self._say(f"{self._cohort}{label}: {reached}, {as_duration(self._pace.left)} left")

    def end(self, summary: str = "") -> None:
        """Replace the bar of the stage by a line, unless it was quick and there is nothing to tell."""
        if self._stage is not None:
            self._bars.remove_task(self._stage)
            self._stage = None
        if summary or self._pace.elapsed >= QUICK_S:
            self._say(f"{self._cohort}{self._stage_words[0]}: {summary or f'{self._pace.elapsed:.0f} s'}")

    def note(self, text: str) -> None:
        """Print a line."""
        self._say(text)

    def warn(self, text: str) -> None:
        """Print a line that stands out."""
        self._say(Text.assemble(("warning:", "bold yellow"), f" {printable(text)}"))

    def _say(self, text: str | Text) -> None:
        # Labels are a user's words, which rich must not read as its markup.
        self._console.print(Text(printable(text)) if isinstance(text, str) else text, highlight=False)


def progress_on(console: Console, *, silent: bool) -> AbstractContextManager[Progress]:
    """Return what shows how far a command is: bars on a console, or nothing."""
    return nullcontext(Progress()) if silent else ConsoleProgress(console)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {_plural(noun)}"


def _plural(noun: str) -> str:
    return f"{noun}es" if noun.endswith("s") else f"{noun}s"
