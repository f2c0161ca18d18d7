"""A table in LaTeX."""

from __future__ import annotations

import re
import unicodedata

from kdbench.printable import printable
from kdbench.report.table import Line, Table

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
