"""Counts that are not complete: bounds in every form of the table, and no mark for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from kdbench.analysis.composite import netscore_of
from kdbench.analysis.summary import summarise
from kdbench.report.figures import accuracy_cost
from kdbench.report.headline import cost_of_front, main_table
from kdbench.report.renderers.html import as_html
from kdbench.report.renderers.latex import as_latex
from kdbench.report.renderers.markdown import as_markdown
from kdbench.report.renderers.separated import as_csv
from kdbench.report.scatter import scatter_json
from kdbench.report.table import Cell, Table

Write = Callable[..., Path]
BOUNDED, EXACT = "mlp_64", "cnn_4"
CALLS = "aten::fft_rfft2 (3×)"


def with_bounds(run: Path, *, cost: str | None = None) -> Path:
    """Let a student of a synthetic run be the cheapest by an incomplete count, without any latency."""
    columns = json.loads((run / "columns.json").read_text())
    more = {"family": "cost", "direction": "none", "unit": "", "range": "", "source": ""}
    columns.append({"name": "macs_uncounted", "title": "Calls that are not counted", **more})
    (run / "columns.json").write_text(json.dumps(columns))
    for path in run.glob("*/*/record.json"):
        record = json.loads(path.read_text())
        if record["status"] == "ok":
            bounded = record["student"] == BOUNDED
            timings = [name for name in record["metrics"] if name.startswith(("latency", "speedup"))]
            record["metrics"] |= dict.fromkeys(timings)
            record["metrics"]["macs_uncounted"] = 3 if bounded else 0
            if bounded:
                record["metrics"]["macs"] = 24
            record["cost_id"] = "0123456789ab"
        path.write_text(json.dumps(record))
    folder = run / "costs" / "0123456789ab"
    folder.mkdir(parents=True)
    counts = {BOUNDED: {"uncounted": {"aten::fft_rfft2": 3}}, EXACT: {"uncounted": {}}}
    (folder / "cost.json").write_text(
        json.dumps({"metrics": {}, "reasons": {}, "conditions": {"counts": counts}})
    )
    return run


@pytest.fixture
def run(write_run: Write) -> Path:
    return with_bounds(write_run())


def cells_of(table: Table, model: str, key: str) -> list[Cell]:
    keys = [heading.key for heading in table.headings]
    return [line.cells[keys.index(key)] for line in table.lines if line.cells[0].text == model]


def test_a_lower_bound_looks_like_one_and_says_why(run: Path) -> None:
    table = main_table(summarise(run))
    for cell in cells_of(table, BOUNDED, "macs"):
        assert cell.text == "≥ 24"
        assert cell.raw == {"macs": 24, "macs_low": None, "macs_high": None, "macs_bound": "lower"}
        note = table.notes[cell.note - 1]
        assert note == f"a lower bound: {CALLS} may multiply and could not be counted"
    for cell in cells_of(table, EXACT, "macs"):
        assert "≥" not in cell.text
        assert cell.raw["macs_bound"] is None
    assert "≥ 24<sup>" in as_markdown(table)
    assert "≥ 24" in as_html(table)
    assert r"$\geq$ 24" in as_latex(table)
    header, *lines = as_csv(table).splitlines()
    flag = header.split(",").index("macs_bound")
    assert {line.split(",")[flag] for line in lines if f",{BOUNDED}," in line} == {"lower"}


def test_a_lower_bound_earns_no_mark_and_no_netscore(run: Path) -> None:
    summary = summarise(run)
    assert cost_of_front(summary) == "macs"
    table = main_table(summary)
    # At 24 multiply-adds it would be the cheapest of all and on every front.
    assert {cell.text for cell in cells_of(table, BOUNDED, "pareto")} == {""}
    assert {cell.raw["pareto"] for cell in cells_of(table, BOUNDED, "pareto")} == {None}
    assert any(cell.raw["pareto"] for line in table.lines for cell in line.cells if "pareto" in cell.raw)
    rows = {row.student: row for row in summary.students}
    assert netscore_of(rows[BOUNDED]) is None
    assert netscore_of(rows[EXACT]) is not None


def test_a_model_without_multiply_adds_earns_no_mark(run: Path) -> None:
    for path in run.glob("*/*/record.json"):
        record = json.loads(path.read_text())
        if record["status"] == "ok" and record["student"] == BOUNDED:
            record["metrics"] |= {"macs": 0, "macs_uncounted": 0}
            path.write_text(json.dumps(record))
    summary = summarise(run)
    assert cost_of_front(summary) == "macs"
    cells = cells_of(main_table(summary), BOUNDED, "pareto")
    assert cells
    assert {cell.raw["pareto"] for cell in cells} == {None}


def test_figures_leave_out_what_is_only_bounded(run: Path) -> None:
    summary = summarise(run)
    assert f"not all of their multiply-adds are counted: {BOUNDED}." in accuracy_cost.caption(summary)
    content = json.loads(scatter_json(summary) or "")
    macs = next(cost for cost in content["costs"] if cost["name"] == "macs")
    prices = [price for trace in macs["x"] for price in trace]
    assert 24 not in prices
    assert None in prices


def test_where_only_bounds_are_known_there_is_no_front(run: Path) -> None:
    for path in run.glob("*/*/record.json"):
        record = json.loads(path.read_text())
        if record["status"] == "ok":
            record["metrics"]["macs_uncounted"] = 1
            path.write_text(json.dumps(record))
    assert cost_of_front(summarise(run)) is None
