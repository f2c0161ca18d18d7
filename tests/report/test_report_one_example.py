"""A test split of one image: what cannot be computed is told, and nothing that is no number is printed."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from kdbench.analysis.comparison import compare_methods
from kdbench.analysis.summary import summarise
from kdbench.report import compare, rank, render, write_report
from kdbench.report.claims import difference_table, statements
from kdbench.report.evidence import NOTHING
from tests.documents import list_files

NO_NUMBER = re.compile(r"\b(nan|inf|infinity)\b", re.IGNORECASE)
COULD_SHOW = re.compile(r"could show ([\d.]+)")
ONE = "one test example: an interval over seeds and examples needs at least two"


@pytest.fixture(params=[1, 2])
def run(request: pytest.FixtureRequest, write_run) -> Path:
    """A run tested on one image, or two, which some seeds have right."""
    size = request.param
    path = write_run(students=("mlp_64", "cnn_4", "cnn_8"), seeds=range(4), failing=frozenset(), test=size)
    labels = np.arange(size)
    for number, file in enumerate(sorted(path.glob("*/*/record.json"))):
        record = json.loads(file.read_text())
        hits = np.random.default_rng(number).random(size) < 0.5
        record["metrics"]["top1"] = float(hits.mean())
        record["tables"]["recall_per_class"] = [*hits.astype(float), *[None] * (10 - size)]
        file.write_text(json.dumps(record))
        predicted = np.where(hits, labels, labels + 1)
        frame = pd.DataFrame({"label": labels, "predicted": predicted}).astype("uint16")
        frame.to_parquet(file.parent / "outcomes.parquet", index=False)
    return list_files(path)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_no_output_holds_what_is_no_number(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdbench.report.gallery.make_plates", lambda *arguments: [])
    console = Console(width=300, file=io.StringIO())
    render(run, console)
    texts = {
        "compare --json": json.dumps(compare(run), allow_nan=False),
        "ranks --json": json.dumps(rank([run]), allow_nan=False),
        "terminal": console.file.getvalue(),
    }
    folder = write_report(run).parent
    texts |= {
        file.name: file.read_text() for file in folder.iterdir() if file.suffix in (".csv", ".md", ".tex")
    }
    page = (folder / "index.html").read_text()
    texts["index.html"] = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)
    assert {"results.csv", "differences.csv", "ranks.csv", "summary.csv", "report.md"} < texts.keys()
    found = {name: match[0] for name, text in texts.items() if (match := NO_NUMBER.search(text))}
    assert found == {}


def test_the_interval_over_seeds_and_examples_says_why_it_is_missing(run: Path) -> None:
    summary = summarise(run)
    rows = difference_table(summary).as_rows()
    reasons = {row["difference_both_reason"] for row in rows}
    assert (ONE in reasons) == (summary.test_size == 1)
    for row in rows:
        assert (row["difference_both_low"] is None) == (row["difference_both_high"] is None)
        if row["difference_both_low"] is None:
            assert row["difference_both_reason"] is not None


def test_a_difference_that_is_not_possible_is_not_said_to_be_what_could_be_shown(run: Path) -> None:
    summary = summarise(run)
    table = difference_table(summary)
    claims = statements(summary, compare_methods(summary))
    assert any(claim.endswith("could show nothing)") for claim in claims)
    assert not any(float(found[1]) > 100 for claim in claims if (found := COULD_SHOW.search(claim)))
    assert NOTHING in table.notes
    assert any("Nothing could be shown where that is more than the range" in line for line in table.legend)
    place = [heading.key for heading in table.headings].index("detectable")
    cells = [line.cells[place] for line in table.lines]
    assert {cell.text for cell in cells if cell.note} == {"–"}
