"""The sections and figures of a report: each one file, registered, and a user's own beside them."""

from __future__ import annotations

import itertools
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from typer.testing import CliRunner

import kdbench.report.figures
import kdbench.report.sections
from kdbench.cli import app
from kdbench.errors import UserError
from kdbench.report import gallery, write_report
from kdbench.report.registry import FIGURES, SECTIONS, drawings, sections
from tests.registries import reopen

OWN = """
from kdbench.report.blocks import Answer, Facts, File, Hint, Paragraphs, Points, Title
from kdbench.report.registry import section
from kdbench.report.table import Cell, Heading, Line, Table

@section("regrets", order={order}, files=("regrets",))
def regrets(summary):
    table = Table("Regrets", (Heading("top1", "best"),), (Line((Cell("96.5", {{"top1": 0.965}}),)),))
    yield Title("What we <regret>")
    yield Paragraphs((f"Of {{len(summary.students)}} rows & more.",), strong=True)
    yield Points(("a point",), ("a warning",))
    yield Facts((("a name", "a value"),), "A heading")
    yield Facts((("a reason", "its columns"),), reasons=True)
    yield Answer(("an answer",))
    yield Hint("click here")
    yield File("regrets", table)
    yield table
    yield Title("What is left")
    yield Points(("another point",))
"""
FIGURE = """
from matplotlib.figure import Figure
from kdbench.report.registry import drawing

@drawing("dots", order=15, title=lambda summary: "Dots", caption=lambda summary: "They mean nothing.")
def draw(summary):
    picture = Figure()
    picture.add_subplot().plot([1, 2], [2, 1])
    return picture
"""


@pytest.fixture
def small(write_run, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(gallery, "FORMATS", {"png": {}, "svg": {"Date": None}})
    monkeypatch.setattr(gallery, "DPI", 15)
    run: Path = write_run(students=("mlp_64",), methods=("scratch", "fitnet"), epochs=1)
    return run


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "drawings", dict)


def test_every_file_of_the_package_is_one_section_with_a_place_of_its_own() -> None:
    modules = {module.name for module in pkgutil.iter_modules(kdbench.report.sections.__path__)}
    assert {entry.make.__module__.rpartition(".")[2] for entry in sections()} == modules
    assert {entry.name for entry in sections()} == modules
    orders = [entry.order for entry in sections()]
    assert orders == sorted(set(orders))


def headings(text: str) -> Iterator[str]:
    """Yield the headings of a Markdown text."""
    tokens = MarkdownIt("commonmark").parse(text)
    for before, token in itertools.pairwise(tokens):
        if before.type == "heading_open":
            yield token.content.replace("\\", "")


def test_a_section_of_a_users_file_is_shown_in_every_form(
    small: Path, no_figures: None, tmp_path: Path
) -> None:
    own = tmp_path / "mine.py"
    own.write_text(OWN.format(order=115))
    page = write_report(small, sections=[f"{own}:regrets"])
    html, text = page.read_text(), (page.parent / "report.md").read_text()
    titles = list(headings(text))
    place = titles.index("What we <regret>")
    assert titles[place - 1] == "How to read this"
    assert titles[place : place + 4] == ["What we <regret>", "A heading", "What is left", "Recipe"]
    for told in (
        "**Of 2 rows \\& more.**",
        "- a warning\n- a point",
        "- a name: a value",
        "an answer",
        "96.5",
    ):
        assert told in text
    assert "- a reason: its columns" in text and "click here" not in text
    assert '<section id="regrets">\n<h2>What we &lt;regret&gt;</h2>' in html
    assert '<section id="regrets-2">\n<h2>What is left</h2>' in html
    for told in ("<p><strong>Of 2 rows &amp; more.</strong></p>", "<li><strong>a warning</strong></li>"):
        assert told in html
    assert "<h3>A heading</h3>" in html and "click here" in html and '<dl class="wide">' in html
    assert (page.parent / "regrets.csv").read_text() == "top1\n0.965\n"
    assert "\\begin{tabular}" in (page.parent / "regrets.tex").read_text()


def test_the_command_line_takes_a_section_of_a_users_file(
    small: Path, no_figures: None, tmp_path: Path
) -> None:
    own = tmp_path / "mine.py"
    own.write_text(OWN.format(order=300))
    reference = f"{own}:regrets"
    done = CliRunner().invoke(app, ["report", str(small), "--page", "lean", "--section", reference])
    assert done.exit_code == 0, done.output
    assert "regrets" not in {entry.name for entry in sections()}, "it is of this report alone"
    assert "What we" in (small / "report" / "index.html").read_text()


def test_a_section_that_is_none_is_refused_before_anything_is_drawn(small: Path, tmp_path: Path) -> None:
    own = tmp_path / "mine.py"
    own.write_text("def regrets(summary):\n    return ()\n")
    with pytest.raises(UserError, match="is no report section"):
        write_report(small, sections=[f"{own}:regrets"])
    with pytest.raises(UserError, match=r"unknown report section 'result'\. Did you mean 'results'"):
        write_report(small, sections=["result"])
    assert not (small / "report").exists()


def test_a_section_and_a_figure_need_one_file_each_and_no_other_edit(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package, registry, name, source in (
        (kdbench.report.sections, SECTIONS, "zz_regrets", OWN.format(order=300)),
        (kdbench.report.figures, FIGURES, "zz_dots", FIGURE),
    ):
        folder = tmp_path / name
        folder.mkdir()
        (folder / f"{name}.py").write_text(source)
        reopen(registry, monkeypatch)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    assert list(drawings())[:2] == ["accuracy_cost", "dots"]
    kept = {name: drawings()[name] for name in ("dots",)}
    monkeypatch.setattr(gallery, "drawings", lambda: kept)
    page = write_report(small)
    text = (page.parent / "report.md").read_text()
    assert "![Dots](figures/dots.png)" in text and "What is left" in text
    assert (page.parent / "figures" / "dots.svg").is_file()
