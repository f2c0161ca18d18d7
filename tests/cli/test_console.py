"""What the terminal shows of a user's words: the words, whatever they would mean as markup."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from kdbench.cli import app
from kdbench.cli.console import ConsoleProgress
from kdbench.cli.listing import plan_table
from kdbench.cli.options import escaped, print_json
from kdbench.plan import make_plan
from kdbench.report import gallery
from kdbench.suite import Suite
from tests.report.conftest import Synthetic

NASTY = "[red]x[/blue] [/] :smile: \\"


def printed(*shown: object) -> str:
    file = io.StringIO()
    console = Console(file=file, width=300, emoji=False)
    for each in shown:
        console.print(each)
    return file.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_shows_labels_as_they_are(terminal: bool) -> None:
    file = io.StringIO()
    console = Console(file=file, width=200, force_terminal=terminal, color_system=None)
    with ConsoleProgress(console) as progress:
        progress.plan(1, 2, 0)
        progress.cohort(1, NASTY)
        progress.begin(f"stage {NASTY}", 2, "epoch")
        progress.advance(1, f"detail {NASTY}")
        progress.end(f"summary {NASTY}")
        progress.note(f"note {NASTY}")
        progress.warn(f"warning of {NASTY}\x1b[2J")
    text = file.getvalue()
    for what in ("stage", "summary", "note", "warning of"):
        assert f"{what} {NASTY}" in text
    assert "\x1b[2J" not in text


def test_a_plan_shows_labels_as_they_are(write_suite: Callable[..., Path]) -> None:
    file = write_suite(
        f"description: '{NASTY}'\n"
        "dataset: digits\n"
        f"teachers: [{{name: mlp_8, label: 'T {NASTY}'}}]\n"
        f"students: [{{name: mlp_4, label: 'S {NASTY}'}}]\n"
        f"methods: [{{name: scratch, label: 'M {NASTY}'}}]\n"
    )
    assert printed(plan_table(make_plan(Suite.load(file)))).count(NASTY) == 4


@pytest.mark.parametrize("text", [NASTY, "a\\", "[bold", "\\[x]", "]["])
def test_escaped_text_is_printed_as_it_is(text: str) -> None:
    assert printed(f"[bold]{escaped(text)}[/] end") == f"{text} end\n"


def test_json_shows_signs_that_a_terminal_obeys_by_their_codes(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"label": "é\x1b[31m\x9b2J\u202e\ud800\n"}]
    print_json(rows)
    text = capsys.readouterr().out
    assert json.loads(text) == rows and "é" in text and all(map(str.isprintable, text.split("\n")))


@pytest.mark.parametrize("label", ["{x: 1}", "''", '"\\u202Eevil"', '"nul\\0"'])
def test_labels_are_plain_text(write_suite: Callable[..., Path], label: str) -> None:
    text = f"dataset: digits\nteachers: [{{name: mlp_8, label: {label}}}]\n"
    text += "students: [mlp_4]\nmethods: [scratch]\n"
    ran = CliRunner().invoke(app, ["check", str(write_suite(text))])
    assert ran.exit_code == 1 and "small.yaml:2: teachers.0.label" in str(ran.exception)


def test_a_label_of_several_lines_is_one_line(write_suite: Callable[..., Path]) -> None:
    text = "dataset: digits\nteachers:\n  - name: mlp_8\n    label: |\n      my\n      teacher\n"
    suite = Suite.load(write_suite(f"{text}students: [mlp_4]\nmethods: [scratch]\n"))
    assert suite.teachers[0].label == "my teacher"


def test_a_report_with_a_part_that_failed_ends_with_status_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> None:
        raise KeyError(NASTY)

    monkeypatch.setattr(gallery, "drawings", dict)
    run = Synthetic(students=("mlp_64",), methods=("scratch",), epochs=1).write(tmp_path / "run")
    assert CliRunner().invoke(app, ["report", str(run)], catch_exceptions=False).exit_code == 0
    monkeypatch.setattr("kdbench.report.sections.differences.difference_table", broken)
    ran = CliRunner().invoke(app, ["report", str(run)], catch_exceptions=False)
    assert ran.exit_code == 1
    assert "failed: the section 'differences' could not be made (KeyError" in ran.stderr
    assert (run / "report" / "index.html").is_file() and "Wrote" in ran.stdout
