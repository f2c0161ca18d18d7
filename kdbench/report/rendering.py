"""One table, five forms: terminal, Markdown, CSV, LaTeX and HTML."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import jinja2
import rich.table
from markupsafe import Markup, escape
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from kdbench.printable import printable
from kdbench.report.abbreviation import shorten_labels
from kdbench.report.table import Cell, Heading, Line, Table

LABELS = ("teacher", "student", "method")
# Widths that labels are shortened to, one after the other, until the important columns fit.
LABEL_WIDTHS = (40, 32, 26, 22, 18, 14)
IMPORTANT = 2
SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
PADDING = 2
STYLES = {"▲": "green", "▼": "red"}

UNICODE = "% Labels hold letters that LuaLaTeX or XeLaTeX sets, with a font that has them."
LATEX_SPECIALS = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "{": r"\{",
        "}": r"\}",
        "_": r"\_",
        "%": r"\%",
        "&": r"\&",
        "#": r"\#",
        "$": r"\$",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "`": r"\textasciigrave{}",
        # At the beginning of a row these would be options of the \\ before it.
        "[": "{[}",
        "]": "{]}",
        "*": "{*}",
        "\0": "{}",
        "±": r"$\pm$",
        "×": r"$\times$",
        "≥": r"$\geq$",
        "≤": r"$\leq$",
        "–": "--",
        "−": r"$-$",
        "↑": r"$\uparrow$",
        "↓": r"$\downarrow$",
        "Δ": r"$\Delta$",
        "κ": r"$\kappa$",
        "‖": r"$\Vert$",
        "▲": r"$\bigtriangleup$",
        "▼": r"$\bigtriangledown$",
        "○": r"$\circ$",
        "◆": r"$\diamondsuit$",
        "√": r"$\surd$",
        "∞": r"$\infty$",
    }
)


def environment() -> jinja2.Environment:
    """Return the environment of the templates beside this module; autoescape is on."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("kdbench.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # A line must not break between a number and its sign, nor around the = of n = 3.
    made.filters["bound"] = lambda text: re.sub(r" ([%↑↓])| (=) ", _unbroken, text)
    # Long labels have no spaces to wrap at.
    made.filters["breakable"] = lambda text: escape(printable(text)).replace(",", Markup(",<wbr>"))
    return made


def _unbroken(found: re.Match[str]) -> str:
    return found.group().replace(" ", "\u00a0")


def as_html(table: Table) -> Markup:
    """Return the table as an HTML fragment; the page's script makes it sortable."""
    return Markup(environment().get_template("table.html").render(table=table))


def as_csv(table: Table) -> str:
    """Return the raw numbers as CSV; what is null is an empty field."""
    rows = table.as_rows()
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_markdown(table: Table) -> str:
    """Return the table in Markdown, with its legend and notes below."""

    def row(texts: Sequence[str]) -> str:
        return f"| {' | '.join(texts)} |"

    lines = [
        row([escape_markdown(heading.text) for heading in table.headings]),
        row(["---:" if heading.numeric else ":---" for heading in table.headings]),
    ]
    for line in table.lines:
        lines.append(row([escape_markdown(cell.text) + _sup(cell.note) for cell in line.cells]))
    notes = [f"{_sup(number)} {escape_markdown(note)}" for number, note in enumerate(table.notes, start=1)]
    below = "  \n".join([*map(escape_markdown, table.legend), *notes])
    return "\n".join(lines) + f"\n\n{below}\n"


def _sup(note: int | None) -> str:
    return f"<sup>{note}</sup>" if note else ""


def escape_markdown(text: str) -> str:
    """Return text on one line in which the characters that Markdown would read as markup are escaped."""
    text = re.sub(r"([\\`*_|<\[\]&#~$])", r"\\\1", printable(text))
    # What would begin a quotation, a list, a rule or a heading.
    text = re.sub(r"^(>|[-+=](?=[-+= ]|$))", r"\\\1", text)
    return re.sub(r"^(\d+)([.)])(?= |$)", r"\1\\\2", text)


def as_latex(table: Table) -> str:
    """Return a LaTeX table; its preamble needs the packages booktabs and graphicx."""
    align = "".join("r" if heading.numeric else "l" for heading in table.headings)
    body: list[str] = []
    previous: Line | None = None
    for line in table.lines:
        if previous is not None and line.cells[0].text != previous.cells[0].text:
            body.append(r"\midrule" if previous.teacher and not line.teacher else r"\addlinespace")
        cells = [escape_latex(cell.text) + _latex_note(cell.note) for cell in line.cells]
        body.append(" & ".join(cells) + r" \\")
        previous = line
    below = [escape_latex(line) for line in table.legend]
    below += [f"{_latex_note(number)} {escape_latex(note)}." for number, note in enumerate(table.notes, 1)]
    return "\n".join(
        [
            r"% Needs \usepackage{booktabs} and \usepackage{graphicx}.",
            *([UNICODE] if _beyond_latin(table) else []),
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape_latex(table.title)}. {' '.join(below)}}}",
            r"\resizebox{\linewidth}{!}{%",
            rf"\begin{{tabular}}{{{align}}}",
            r"\toprule",
            " & ".join(escape_latex(heading.text) for heading in table.headings) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
            "",
        ]
    )


def _beyond_latin(table: Table) -> bool:
    """Return whether labels hold letters that pdfLaTeX does not know by itself."""
    text = escape_latex("".join([table.title, *(cell.text for line in table.lines for cell in line.cells)]))
    return any(ord(sign) > 0x24F and unicodedata.category(sign)[0] in "LMS" for sign in text)


def _latex_note(note: int | None) -> str:
    return f"$^{{{note}}}$" if note else ""


def escape_latex(text: str) -> str:
    """Return text in which LaTeX's special characters, and the signs of our tables, are commands."""
    # Two hyphens stay two: LaTeX would make one dash of them.
    return re.sub("-(?=-)", "-\0", printable(text)).translate(LATEX_SPECIALS)


def print_table(table: Table, console: Console) -> None:
    """Print a table with its title above, and its legend, its notes and what was left out below."""
    fitted, hidden = for_terminal(table, console.width)
    console.print(Text(printable(table.title), style="bold"))
    console.print()
    console.print(fitted)
    console.print()
    for line in table.legend:
        console.print(Text(printable(line), style="dim"))
    for number, note in enumerate(table.notes, start=1):
        console.print(Text(f"{str(number).translate(SUPERSCRIPTS)} {printable(note)}", style="dim"))
    if hidden:
        names = ", ".join(heading.title for heading in hidden)
        console.print(Text(f"Left out at {console.width} columns: {names}.", style="dim"))


def for_terminal(table: Table, width: int) -> tuple[rich.table.Table, tuple[Heading, ...]]:
    """Return the table fitted to a terminal, and the headings that had to be left out.

    Labels are shortened in the middle first (never so far that two become one), then the least important
    columns go.
    """
    for limit in LABEL_WIDTHS:
        shortened = _shorten(table, limit)
        widths = _widths(shortened)
        needed = [
            w for w, heading in zip(widths, table.headings, strict=True) if heading.importance <= IMPORTANT
        ]
        if sum(needed) + PADDING * len(needed) <= width:
            break
    kept = _fitting(shortened.headings, widths, width)
    return _rich(shortened, kept), tuple(
        heading for index, heading in enumerate(table.headings) if index not in kept
    )


def _fitting(headings: Sequence[Heading], widths: Sequence[int], width: int) -> set[int]:
    kept: set[int] = set()
    used = 0
    for index in sorted(range(len(headings)), key=lambda index: headings[index].importance):
        needed = widths[index] + PADDING
        if headings[index].importance == 0 or used + needed <= width:
            kept.add(index)
            used += needed
    return kept


def _rich(table: Table, kept: set[int]) -> rich.table.Table:
    # One space of padding and the box's one between columns: the PADDING that widths are reckoned with.
    result = rich.table.Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    for index, heading in enumerate(table.headings):
        if index in kept:
            side: Literal["right", "left"] = "right" if heading.numeric else "left"
            result.add_column(Text(_stacked(heading)), justify=side, no_wrap=True)
    previous: tuple[str, ...] | None = None
    labels = sum(heading.key in LABELS for heading in table.headings) - 1
    for line in table.lines:
        group = tuple(cell.text for cell in line.cells[:labels])
        texts = [_rich_cell(cell) for cell in line.cells]
        if group == previous:
            texts[:labels] = [Text("")] * labels
        elif previous is not None:
            result.add_row()
        result.add_row(
            *[text for index, text in enumerate(texts) if index in kept],
            style="bold" if line.teacher else None,
        )
        previous = group
    return result


def _rich_cell(cell: Cell) -> Text:
    style = next((style for mark, style in STYLES.items() if mark in cell.text), "")
    return Text(_terminal_text(cell), style=style)


def _terminal_text(cell: Cell) -> str:
    return printable(cell.text) + (str(cell.note).translate(SUPERSCRIPTS) if cell.note else "")


def _stacked(heading: Heading) -> str:
    first = " ".join(part for part in (heading.title, heading.arrow) if part)
    return f"{first}\n({heading.unit})" if heading.unit else first


def _widths(table: Table) -> list[int]:
    widths = [max(map(cell_len, _stacked(heading).split("\n"))) for heading in table.headings]
    for line in table.lines:
        widths = [max(w, cell_len(_terminal_text(c))) for w, c in zip(widths, line.cells, strict=True)]
    return widths


def _shorten(table: Table, limit: int) -> Table:
    lines = [list(line.cells) for line in table.lines]
    for index, heading in enumerate(table.headings):
        if heading.key in LABELS:
            short = shorten_labels([cells[index].text for cells in lines], limit)
            for cells, text in zip(lines, short, strict=True):
                cells[index] = replace(cells[index], text=text)
    return replace(
        table,
        lines=tuple(replace(line, cells=tuple(c)) for line, c in zip(table.lines, lines, strict=True)),
    )
