from __future__ import annotations

import csv
import io
import json

import pytest
from rich.console import Console

from kdbench.analysis.summary import summarise
from kdbench.report.abbreviation import shorten_labels
from kdbench.report.columns import split
from kdbench.report.headline import main_table
from kdbench.report.renderers.html import as_html
from kdbench.report.renderers.latex import as_latex, escape_latex
from kdbench.report.renderers.markdown import as_markdown
from kdbench.report.renderers.separated import as_csv
from kdbench.report.renderers.terminal import for_terminal
from kdbench.report.table import Cell, Heading, Line, Table

SMALL = Table(
    title="A & B",
    headings=(
        Heading("student", "student", numeric=False),
        Heading("method", "method", numeric=False),
        Heading("top1", "top-1", "↑", "%"),
        Heading("difference", "Δ", unit="points", importance=1),
        Heading("params", "params", "↓", importance=2),
        Heading("ece", "ECE", "↓", importance=6),
    ),
    lines=(
        Line(
            (
                Cell("big"),
                Cell("(teacher)"),
                Cell("98.5", note=1),
                Cell(""),
                Cell("278 k"),
                Cell("–", note=2),
            ),
            True,
        ),
        Line((Cell("mlp_64"), Cell("scratch"), Cell("95.2 ± 0.3"), Cell(""), Cell("4.81 k"), Cell("0.023"))),
        Line(
            (
                Cell("mlp_64"),
                Cell("kd(T=4)"),
                Cell("96.5 ± 0.3"),
                Cell("+1.3 ▲"),
                Cell("4.81 k"),
                Cell("0.028"),
            )
        ),
        Line((Cell("cnn_4"), Cell("scratch"), Cell("90.4 ± 0.2"), Cell(""), Cell("1.25 k"), Cell("0.030"))),
    ),
    legend=("± is half the interval.",),
    notes=("one seed", "it is the <teacher>"),
)


def printed(table: Table, width: int) -> str:
    console = Console(width=width, file=io.StringIO())
    console.print(for_terminal(table, width)[0])
    lines = console.file.getvalue().splitlines()
    return "\n".join(line.rstrip() for line in lines)


def test_the_terminal_table_is_this():
    assert printed(SMALL, 60) == "\n".join(
        [
            "                       top-1 ↑         Δ",
            "student  method            (%)  (points)  params ↓  ECE ↓",
            "─────────────────────────────────────────────────────────",
            "big      (teacher)       98.5¹               278 k     –²",
            "",
            "mlp_64   scratch    95.2 ± 0.3              4.81 k  0.023",
            "         kd(T=4)    96.5 ± 0.3    +1.3 ▲    4.81 k  0.028",
            "",
            "cnn_4    scratch    90.4 ± 0.2              1.25 k  0.030",
        ]
    )


def test_a_narrow_terminal_loses_columns_and_says_which():
    def hidden(width: int) -> list[str]:
        return [heading.key for heading in for_terminal(SMALL, width)[1]]

    assert hidden(60) == []
    assert hidden(52) == ["ece"]
    # The next in importance that still fits is kept in place of one that does not.
    assert hidden(50) == ["params"]
    assert hidden(45) == ["params", "ece"]
    assert hidden(35) == ["difference", "params", "ece"]


@pytest.mark.parametrize("width", [80, 100, 140])
def test_no_cell_is_cut_or_wrapped_at_usual_widths(synthetic_run, width):
    text = printed(main_table(summarise(synthetic_run)), width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    for needed in ("95.2 ± 0.3", "+1.3 ▲", "kd(temperature=4)", "◆", "gru_32"):
        assert needed in text


def test_long_labels_are_cut_in_the_middle_but_never_into_one():
    assert shorten_labels(["kd(temperature=4,weight=0.9)", "at"], 14) == ["kd(tem…ht=0.9)", "at"]
    alike = ["kd(temperature=4,weight=0.9)", "kd(temperature=8,weight=0.9)"]
    assert shorten_labels(alike, 14) == alike


def test_markdown_has_the_notes_and_no_markup_of_its_own():
    text = as_markdown(SMALL)
    assert "| student | method | top-1 ↑ (%) | Δ (points) | params ↓ | ECE ↓ |" in text
    assert "| :--- | :--- | ---: | ---: | ---: | ---: |" in text
    assert "| mlp\\_64 | kd(T=4) | 96.5 ± 0.3 | +1.3 ▲ | 4.81 k | 0.028 |" in text
    assert "<sup>2</sup> it is the \\<teacher\\>" in text.replace(">", "\\>").replace("sup\\>", "sup>")


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("mlp_64 & 5 %", r"mlp\_64 \& 5 \%"),
        ("#{$}~^", r"\#\{\$\}\textasciitilde{}\textasciicircum{}"),
        ("a\\b", r"a\textbackslash{}b"),
        ("95.2 ± 0.3 ▲", r"95.2 $\pm$ 0.3 $\bigtriangleup$"),
        ("top-1 ↑, −0.8, 3×, –", r"top-1 $\uparrow$, $-$0.8, 3$\times$, --"),
        ("p < 0.05", r"p \textless{} 0.05"),
    ],
)
def test_latex_specials_are_escaped(text, escaped):
    assert escape_latex(text) == escaped


def test_the_latex_table_is_ascii_booktabs(synthetic_run):
    for table in (SMALL, main_table(summarise(synthetic_run))):
        text = as_latex(table)
        assert text.isascii()
        for command in (r"\toprule", r"\midrule", r"\bottomrule", r"\begin{tabular}"):
            assert command in text
        rows = [line for line in text.splitlines() if line.endswith(r"\\")]
        assert len(rows) == 1 + len(table.lines)
        assert {row.replace(r"\&", "").count("&") for row in rows} == {len(table.headings) - 1}
    assert r"mlp\_64 & kd(T=4) & 96.5 $\pm$ 0.3 & +1.3 $\bigtriangleup$ & 4.81 k & 0.028 \\" in as_latex(
        SMALL
    )


def test_html_escapes_its_cells():
    text = as_html(SMALL)
    assert "it is the &lt;teacher&gt;" in text
    assert "<sup>2</sup>" in text


def test_csv_holds_the_raw_numbers_of_the_records(synthetic_run):
    summary = summarise(synthetic_run)
    rows = list(csv.DictReader(io.StringIO(as_csv(main_table(summary)))))
    assert [row["role"] for row in rows].count("teacher") == 1
    for row, kept in zip(rows, summary.rows, strict=True):
        assert float(row["top1"]) == kept.metrics["top1"].mean
        assert row["params"] == str(kept.mean("params"))
    scratch, kd = rows[1], rows[3]
    assert scratch["difference"] == scratch["verdict"] == ""
    assert (kd["method"], kd["verdict"], kd["baseline"]) == ("kd(temperature=4)", "better", "scratch")
    assert float(kd["difference"]) == pytest.approx(float(kd["top1"]) - float(scratch["top1"]))


def test_the_main_table_marks_differences_fronts_and_nulls(synthetic_run):
    table = main_table(summarise(synthetic_run))
    texts = {
        (line.cells[0].text, line.cells[1].text): dict(
            zip((heading.key for heading in table.headings), line.cells, strict=True)
        )
        for line in table.lines
    }
    best = texts["mlp_64", "kd(temperature=4)"]
    assert best["difference"].text == "+1.3 ▲"
    assert best["pareto"].text == "◆"
    assert texts["mlp_64", "fitnet"]["difference"].text == "−0.9 ○"
    assert texts["gru_32", "fitnet"]["n"].text == "2"
    teacher = texts["cnn_64", "(teacher)"]
    assert teacher["agreement"].text == "–"
    assert table.notes[teacher["agreement"].note - 1] == "it is the teacher"
    assert json.loads(json.dumps(table.as_rows(), allow_nan=False)) == table.as_rows()


def test_costs_stand_beside_accuracy(synthetic_run):
    table = main_table(summarise(synthetic_run))
    headline, further = split(table)
    keys = [heading.key for heading in headline.headings]
    assert keys == [
        *("student", "method", "n", "top1", "difference", "pareto"),
        *("latency_cpu_b1_p50_ms", "speedup_cpu_b1", "params", "macs", "size_bytes", "agreement"),
    ]
    assert [heading.key for heading in further.headings] == [
        *("student", "method", "error_consistency", "ece", "kl_teacher_student")
    ]
    assert len(headline.lines) == len(further.lines) == len(table.lines)
    assert headline.legend == table.legend


def test_a_part_of_a_table_keeps_the_notes_of_its_cells():
    part = SMALL.only({"student", "ece"}, "part")
    assert [heading.key for heading in part.headings] == ["student", "ece"]
    assert part.notes == ("it is the <teacher>",)
    assert part.lines[0].cells[1].note == 1
    assert (part.title, part.legend) == ("part", ())


def test_another_metric_leads_the_table_and_keeps_accuracy(synthetic_run):
    table = main_table(summarise(synthetic_run), metric="agreement", baseline="fitnet")
    keys = [heading.key for heading in table.headings]
    assert keys.index("agreement") < keys.index("difference") < keys.index("top1")
    assert keys.count("agreement") == 1


def test_without_any_interval_the_legend_says_so_once(write_run):
    table = main_table(summarise(write_run(seeds=(0,), students=("mlp_64",), failing=frozenset())))
    assert any("no ±" in line for line in table.legend)
    assert not any("±" in cell.text for line in table.lines for cell in line.cells)
    assert not any("▲" in line for line in table.legend)
