"""The runs that are published with kdbench, which earlier versions wrote, are still read."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from kdbench.analysis.summary import summarise
from kdbench.store import RunDirectory, check, load

RESULTS = Path(__file__).parents[2] / "results"
RUNS = sorted(path.parent for path in RESULTS.glob("*/run.json"))


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.name)
def test_a_published_run_is_read_as_it_was_written(path: Path) -> None:
    written = pd.read_csv(path / "results.csv", keep_default_na=False, na_values=[""])
    frame = load(path)
    assert frame.id.tolist() == written.id.tolist() and set(frame.status) <= {"ok", "failed", "skipped"}
    pd.testing.assert_series_equal(frame.top1, written.top1.astype(float))
    manifest = json.loads((path / "run.json").read_text())
    for record in RunDirectory.open(path).records():
        teacher = record.role == "teacher"
        assert (record.origin is None) == teacher and record.cost_id
        assert record.origin in (None, *manifest["teachers"])
    assert check(path, records_only=True) == []
    assert summarise(path).rows


def test_there_are_published_runs() -> None:
    assert len(RUNS) >= 4
