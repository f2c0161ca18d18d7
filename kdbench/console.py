"""How a run looks in a terminal: bars with the time left, or plain lines where there is no terminal."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.text import Text

from kdbench.printable import printable
from kdbench.progress import Progress


class ConsoleProgress(Progress):
    """Draws one bar for the cohorts of the run and one for the stage at work."""

    def __init__(self, console: Console) -> None:
        """Draw on a console; without a terminal each finished stage is one line."""
        self._console = console
        self._bars = Bars(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}", markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._run: TaskID | None = None
        self._stage: TaskID | None = None
        self._label = ""
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
        self._console.print(f"{cells} cells in {_count(cohorts, 'cohort')}{before}", highlight=False)
        if done + failed + skipped < cells:
            self._run = self._bars.add_task("run", total=cohorts, unit="cohorts", detail="")

    def cohort(self, number: int, label: str) -> None:
        """Move the bar of the run on."""
        self._cohort = f"cohort {number} ({label}): "
        if self._run is not None:
            self._bars.update(self._run, completed=number - 1)

    def begin(self, label: str, total: int, unit: str) -> None:
        """Begin the bar of a stage."""
        self._label = printable(label)
        self._stage = self._bars.add_task(self._label, total=total, unit=f"{unit}s", detail="")

    def advance(self, done: int, detail: str = "") -> None:
        """Move the bar of the stage on."""
        if self._stage is not None:
            self._bars.update(self._stage, completed=done, detail=printable(detail))

    def end(self, summary: str = "") -> None:
        """Replace the bar of the stage by a line."""
        if self._stage is not None:
            self._bars.remove_task(self._stage)
            self._stage = None
        self._say(f"{self._cohort}{self._label}: {summary or 'done'}")

    def note(self, text: str) -> None:
        """Print a line."""
        self._say(text)

    def warn(self, text: str) -> None:
        """Print a line that stands out."""
        self._say(Text.assemble(("warning:", "bold yellow"), f" {printable(text)}"))

    def _say(self, text: str | Text) -> None:
        # Labels are a user's words, which rich must not read as its markup.
        self._console.print(Text(printable(text)) if isinstance(text, str) else text, highlight=False)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
