"""A user's words in every form of a report: shown as they are, never read as markup."""

from __future__ import annotations

import html
import io
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.lines import Line2D
from matplotlib.text import Text
from rich.console import Console

from kdbench.analysis.summary import summarise
from kdbench.printable import printable
from kdbench.report import content, gallery, render, style, write_report
from kdbench.report.abbreviation import shorten_labels
from kdbench.report.registry import drawings, sections
from kdbench.report.renderers.latex import as_latex, escape_latex
from kdbench.report.renderers.markdown import as_markdown, escape_markdown
from kdbench.report.renderers.terminal import for_terminal
from kdbench.report.scatter import scatter_json
from kdbench.report.table import Cell, Heading, Line, Table
from tests.report.conftest import Synthetic

NASTY = (
    "$\\frac{$ 50% & #1 ^{}",
    "_hidden [red]x[/] [/]",
    "<b>bold</b> &amp; a|b\\|c",
    "`c` *d* __e__ ~~f~~ --- {x}",
    "line\nbreak שלום %{y}",
    "\x1b[31mred\u202e 👩‍👧 :smile:",
    "x" * 300,
)


def cells_of(label: str, second: str = "plain") -> Table:
    """Return a table with two labels, the first of them at the beginning of two rows."""
    lines = [Line((Cell(text), Cell("1.0"))) for text in (label, second, label)]
    return Table(
        "title", (Heading("student", "student", numeric=False), Heading("top1", "top-1")), tuple(lines)
    )


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory):
    run = Synthetic(
        students=NASTY,
        methods=("scratch", *NASTY[:3]),
        teachers=("T$a$ <b>bold</b> &amp; a/b.c",),
        classes=NASTY,
        seeds=(0,),
        epochs=1,
        failing=frozenset({(NASTY[0], NASTY[1], 0)}),
    ).write(tmp_path_factory.mktemp("nasty") / "run")
    return summarise(run)


@pytest.mark.parametrize("name", list(drawings()))
def test_every_figure_is_drawn_with_the_words_as_they_are(
    summary, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = {name: drawings()[name]}
    drawn = []
    monkeypatch.setattr(gallery, "DPI", 15)
    monkeypatch.setattr(gallery, "FORMATS", {"png": {}, "svg": {"Date": None}})
    monkeypatch.setattr(gallery, "drawings", lambda: modules)
    monkeypatch.setattr(gallery, "save", lambda figure: drawn.append(figure) or gallery_save(figure))
    (plate,) = gallery.make_plates(summary, tmp_path)
    assert plate.missing is None
    assert len(f"{plate.stem}.svg") < 100
    texts = {text.get_text() for text in drawn[0].findobj(Text)}
    assert any("T$a$ <b>bold</b> &amp;" in " ".join(text.split()) for text in texts)
    if name in ("agreement", "learning_curves", "critical_difference"):
        assert all(any(label in text for text in texts) for label in NASTY[:2])
    assert not any("\x1b" in text for text in texts)


gallery_save = gallery.save


class Cells(HTMLParser):
    """Collects the text of every cell of a page's tables, and the names of all elements."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: set[str] = set()
        self._inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: object) -> None:
        self.tags.add(tag)
        if tag == "td":
            self._inside = True
            self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "td":
            self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.texts[-1] += data


def markdown_cells(text: str) -> Iterator[str]:
    """Yield the text of the cells of all tables, as a Markdown parser reads it."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    for before, token in itertools.pairwise(tokens):
        if before.type in ("td_open", "th_open"):
            yield "".join(child.content for child in token.children or ())


def test_the_page_the_document_and_the_tables_show_the_words(
    summary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "drawings", dict)
    told: list[str] = []
    page = write_report(summary.run.path, tmp_path, failed=told.append)
    assert told == [] and not (tmp_path / "failures.txt").exists()
    found = Cells(page.read_text())
    shown = {printable(label) for label in NASTY}
    assert shown <= set(found.texts)
    assert not found.tags & {"b", "red"}
    assert shown <= set(markdown_cells((tmp_path / "report.md").read_text()))
    assert "\x1b" not in page.read_text() + (tmp_path / "report.md").read_text()
    assert (tmp_path / "results.tex").read_text().count("\\begin{tabular}") == 1


def test_the_terminal_shows_the_words_and_obeys_none(summary) -> None:
    file = io.StringIO()
    render(summary.run.path, Console(file=file, width=400, force_terminal=True, color_system=None))
    text = file.getvalue()
    for label in NASTY[:-1]:
        assert printable(label) in text
    assert "\x1b[31mred" not in text and "\u202e" not in text


def test_the_chart_of_the_page_shows_the_words(summary) -> None:
    chart = json.loads(scatter_json(summary) or "")
    names = [trace["name"] for trace in chart["figure"]["data"]]
    assert names[0] == "teacher"
    # plotly reads HTML in names: decoded they are the labels, and they hold no tag.
    assert [html.unescape(name) for name in names[1:]] == list(map(printable, summary.methods))
    assert not any("<" in name for name in names)


def test_the_chart_of_the_page_shows_the_titles_of_columns(summary) -> None:
    columns = {
        name: replace(column, title=f"<b>{column.title}</b>") for name, column in summary.columns.items()
    }
    chart = json.loads(scatter_json(replace(summary, columns=columns)) or "")
    read_as_html = [
        chart["figure"]["layout"]["yaxis"]["title"]["text"],
        *(cost["axis"] for cost in chart["costs"]),
    ]
    read_as_html += [text.replace("<br>", "") for trace in chart["figure"]["data"] for text in trace["text"]]
    assert not any("<" in text for text in read_as_html)
    assert all(
        html.unescape(cost["axis"]) == cost["title"] and "<b>" in cost["title"] for cost in chart["costs"]
    )


TEX = {
    r"\textbackslash{}": "\\",
    r"\textasciitilde{}": "~",
    r"\textasciicircum{}": "^",
    r"\textless{}": "<",
    r"\textgreater{}": ">",
    r"\textbar{}": "|",
    r"\textasciigrave{}": "`",
    **{f"\\{sign}": sign for sign in "{}_%&#$"},
    **{f"{{{sign}}}": sign for sign in "[]*"},
    "{}": "",
}


def as_tex_reads(text: str) -> str:
    """Return what LaTeX prints of text: commands are their signs, and no special sign stands alone."""
    commands = "|".join(map(re.escape, sorted(TEX, key=len, reverse=True)))
    tokens = re.findall(f"{commands}|.", text, flags=re.DOTALL)
    assert not set(tokens) & set("\\{}_%&#$~^<>|`[]*"), text
    assert not any(pair == ("-", "-") for pair in itertools.pairwise(tokens)), text
    return "".join(TEX.get(token, token) for token in tokens)


WORDS = st.text(st.characters(max_codepoint=0x7F) | st.sampled_from("é א😀‍\u202e"), max_size=40)


@given(WORDS)
@example("[-5] *a* -- `x`")
def test_latex_prints_the_words(text: str) -> None:
    assert as_tex_reads(escape_latex(text)) == printable(text)


@given(WORDS)
@example("# a #")
@example("1. one")
@example("- - -")
@example("> quoted &lt; ~~gone~~")
def test_markdown_prints_the_words(text: str) -> None:
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    kept = " ".join(printable(text).split())
    tokens = parser.parse(escape_markdown(kept))
    assert [token.type for token in tokens] == (
        ["paragraph_open", "inline", "paragraph_close"] if kept else []
    )
    if kept:
        assert "".join(child.content for child in tokens[1].children or ()) == kept
    cells = list(markdown_cells(as_markdown(cells_of(kept))))
    assert cells == ["student", "top-1", kept, "1.0", "plain", "1.0", kept, "1.0"]


def test_a_row_that_begins_with_a_bracket_is_no_option_of_the_row_before() -> None:
    text = as_latex(cells_of("[red]"))
    assert "{[}red{]} & 1.0" in text and not re.search(r"\\\\\s*\[", text)
    assert "LuaLaTeX" in as_latex(cells_of("שלום")) and "LuaLaTeX" not in text


@settings(max_examples=12)
@given(WORDS.filter(str.strip))
@example("$$")
@example("_")
def test_any_words_can_be_a_title_and_stand_in_a_legend(text: str) -> None:
    with style.styled():
        figure = style.new_figure(text, 4, 2)
        figure.subplots().set_xlabel(text)
        style.legend_below(figure, [Line2D([], [], label=text), Line2D([], [], label="other")])
        texts = [entry.get_text() for entry in figure.legends[0].get_texts()]
        FigureCanvasAgg(figure)
        figure.draw_without_rendering()
    assert texts == [text, "other"]


def test_long_labels_are_cut_and_stay_apart() -> None:
    labels = [f"{'x' * 100}{middle}{'y' * 100}" for middle in "abc"]
    short = shorten_labels(labels, 30)
    assert len(set(short)) == 3
    assert shorten_labels(["a" * 50, "b" * 50], 10) == ["aaaa…aaaaa", "bbbb…bbbbb"]
    assert for_terminal(cells_of(labels[0], labels[1]), 80)[1] == ()


def broken(*_: object) -> None:
    raise KeyError("T$a$ [red]")


@pytest.mark.parametrize("part", [entry.name for entry in sections()])
def test_a_section_that_fails_is_named_and_the_others_are_written(
    synthetic_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    monkeypatch.setattr(gallery, "drawings", dict)
    known = [replace(entry, make=broken) if entry.name == part else entry for entry in sections()]
    monkeypatch.setattr(content, "sections", lambda _: known)
    stale = [tmp_path / f"{name}.csv" for entry in known if entry.name == part for name in entry.files]
    for path in stale:
        path.write_text("of an earlier report")
    told: list[str] = []
    page = write_report(synthetic_run, tmp_path, failed=told.append)
    (line,) = told
    assert "could not be made (KeyError: 'T$a$ [red]'); its traceback is in" in line
    assert "in broken" in (tmp_path / "failures.txt").read_text()
    assert line.startswith(f"the section '{part}' could")
    for text in (html.unescape(page.read_text()), (tmp_path / "report.md").read_text().replace("\\_", "_")):
        assert f"the section '{part}' could not be made" in text
        assert ("Provenance" in text) == (part != "provenance")
    assert not any(path.exists() for path in stale)


def test_a_figure_a_chart_and_a_page_that_fail_leave_the_rest(
    synthetic_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails = replace(drawings()["learning_curves"], draw=broken)
    monkeypatch.setattr(gallery, "drawings", lambda: {"correctness": fails})
    monkeypatch.setattr("kdbench.report.scatter.scatter_json", broken)
    with pytest.warns(RuntimeWarning) as warned:
        page = write_report(synthetic_run, tmp_path)
    assert [str(entry.message).partition(" could")[0] for entry in warned] == [
        "the figure correctness",
        "the section 'explore'",
    ]
    for text in (page.read_text(), (tmp_path / "report.md").read_text()):
        assert "correctness: KeyError" in text and "the figure correctness could not be made" in text
    text = html.unescape(page.read_text())
    assert "the section 'explore' could not be made" in text and "chart-data" not in text
    monkeypatch.setattr("kdbench.report.renderers.html.as_page", broken)
    told: list[str] = []
    text = write_report(synthetic_run, tmp_path, failed=told.append).read_text()
    assert "index.html could not be made" in text and "index.html" in told[-1]
    monkeypatch.undo()
    monkeypatch.setattr(gallery, "drawings", dict)
    write_report(synthetic_run, tmp_path, failed=told.append)
    assert not (tmp_path / "failures.txt").exists()
