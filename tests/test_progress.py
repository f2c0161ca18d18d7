"""What is told while a run works: bars with a name and a time left, lines without a terminal, every phase."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from kdbench.cli.console import ConsoleProgress, Pace, as_duration
from kdbench.progress import Progress, Steps
from kdbench.report import gallery
from kdbench.report.figures import NothingToDraw
from kdbench.runner import run
from kdbench.suite import Suite

Load = Callable[..., Suite]


class Time:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def lines(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_the_time_left_is_that_of_the_units_so_far() -> None:
    time = Time()
    pace = Pace(10, time)
    assert pace.left is None
    time.now += 40  # one unit in 40 s: nine more take 360 s
    pace.reached(1)
    assert pace.left == pytest.approx(360)
    time.now += 20
    pace.reached(2)
    assert pace.left == pytest.approx(8 * 20)
    time.now += 15
    assert pace.left == pytest.approx(8 * 20 - 15)
    time.now += 1000
    assert pace.left == 0


def test_units_that_were_done_before_do_not_count_for_the_pace() -> None:
    time = Time()
    pace = Pace(240, time)
    time.now += 0.01
    pace.reached(200)  # a run that goes on
    assert pace.left is None
    time.now += 60
    pace.reached(201)
    assert pace.left == pytest.approx(39 * 60)


def test_parts_of_a_unit_give_a_time_left() -> None:
    time = Time()
    pace = Pace(2, time)
    time.now += 30
    pace.reached(0.25)
    assert pace.left == pytest.approx(7 * 30)


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-:--:--"), (0, "0:00:00"), (59.6, "0:01:00"), (3723.4, "1:02:03")]
)
def test_durations_are_hours_minutes_and_seconds(seconds: float | None, text: str) -> None:
    assert as_duration(seconds) == text


def test_a_bar_shows_its_name_and_the_time_left_however_long_a_unit_takes() -> None:
    time = Time()
    console = Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None)
    progress = ConsoleProgress(console, time)
    progress.begin("evaluating [4] models", 5, "pass")
    time.now += 300
    progress.advance(1, "cnn_4")
    with console.capture() as shown:
        console.print(progress._bars.get_renderable())
    for text in ("evaluating [4] models", "1/5 passes", "left 0:20:00", "cnn_4"):
        assert text in shown.get()


def test_without_a_terminal_a_long_stage_says_now_and_then_how_far_it_is() -> None:
    time = Time()
    console = Console(file=io.StringIO(), width=200)
    progress = ConsoleProgress(console, time)
    progress.cohort(2, "cnn_4, seed 1")
    progress.begin("3 students", 10, "epoch")
    for epoch in range(1, 8):
        time.now += 25
        progress.advance(epoch)
    assert lines(console) == [
        "cohort 2 (cnn_4, seed 1): 3 students: 3 of 10 epochs, 0:01:15 gone, 0:02:55 left",
        "cohort 2 (cnn_4, seed 1): 3 students: 6 of 10 epochs, 0:02:30 gone, 0:01:40 left",
    ]


def test_a_quick_stage_leaves_a_line_only_if_it_has_something_to_tell() -> None:
    time = Time()
    console = Console(file=io.StringIO(), width=200)
    progress = ConsoleProgress(console, time)
    with Steps(progress, "scoring", 1, "record") as steps:
        steps.step()
    progress.begin("teacher cnn_4", 4, "epoch")
    progress.end("0 s")
    progress.cohort(1, "cnn_4, seed 0")
    progress.trained()
    with Steps(progress, "drawing", 1, "figure"):
        time.now += 3
    assert lines(console) == ["teacher cnn_4: 0 s", "drawing: 3 s"]


def test_a_stage_of_nothing_is_not_told_of_and_one_that_broke_off_does_not_end() -> None:
    heard = Stages()
    with Steps(heard, "nothing", 0, "record"):
        pass
    assert heard.totals == {}
    with pytest.raises(ValueError, match="broken"), Steps(heard, "some", 2, "record") as steps:
        steps.step()
        raise ValueError("broken")
    assert heard.totals == {"some": 2} and heard.reached == {"some": 1} and heard.ended == []


class Stages(Progress):
    def __init__(self) -> None:
        self.totals: dict[str, int] = {}
        self.reached: dict[str, float] = {}
        self.ended: list[str] = []
        self._label: str | None = None

    def begin(self, label: str, total: int, unit: str) -> None:
        assert self._label is None, f"{label} begins within {self._label}"
        self._label = label
        self.totals[label] = total
        self.reached.pop(label, None)

    def advance(self, done: float, detail: str = "") -> None:
        assert self._label is not None and done >= self.reached.get(self._label, 0)
        self.reached[self._label] = done

    def end(self, summary: str = "") -> None:
        assert self._label is not None
        self.ended.append(self._label)
        self._label = None


def test_every_phase_of_a_run_is_told_to_its_end(small_suite: Load, tmp_path: Path) -> None:
    heard = Stages()
    suite = small_suite(
        "seeds=[0]",
        "students=[mlp_16]",
        "teachers.0.recipe.epochs=1",
        "controls={independent_teacher: true}",
        "robustness={examples: 20, corruptions: brightness, severities: [1]}",
    )
    run(suite, tmp_path / "run", progress=heard)
    assert heard.totals.keys() == {
        "teacher cnn_4",
        "evaluating teacher cnn_4",
        "measuring 2 models",
        "2 students",
        "evaluating 2 models",
        "comparing with independent teachers",
        "1 model on corrupted images",
        "2 models on corrupted images",
    }
    # Splits: test, train and validation, and again test and validation of the best epoch; then the scores.
    assert heard.totals["evaluating teacher cnn_4"] == 5 + 1
    assert heard.totals["evaluating 2 models"] == 2 * (5 + 1)
    assert heard.totals["comparing with independent teachers"] == 1 + 2
    del heard.totals["measuring 2 models"]  # nothing is timed here: it has no pass
    assert {label: heard.reached[label] for label in heard.totals} == heard.totals


def test_the_report_is_told_figure_by_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(part: Any) -> None:
        raise NothingToDraw("no data")

    part = SimpleNamespace(measured=True)
    summary: Any = SimpleNamespace(
        without_repeats=lambda: summary, by_teacher=lambda: {"cnn_4": part}.items()
    )
    figures = dict.fromkeys(("ranks", "curves"), SimpleNamespace(draw=nothing))
    monkeypatch.setattr(gallery, "drawings", lambda: figures)
    monkeypatch.setattr(gallery, "for_drawing", lambda summary: summary)
    heard = Stages()
    gallery.make_plates(summary, tmp_path, progress=heard)
    assert heard.totals == heard.reached == {"drawing the report": 2} and heard.ended
