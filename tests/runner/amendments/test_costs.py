"""Costs in records: what is known now takes the place of what was said to be missing."""

from __future__ import annotations

from kdbench.runner.amendments.costs import Costs, Measured
from kdbench.runner.scores import Scores
from kdbench.suite.schema import ModelEntry


def test_a_number_that_was_missing_has_no_reason_any_more() -> None:
    found = {"macs": 12.0, "theoretical_speedup": 2.0, "params_nonzero": None}
    costs = Costs({"big": Measured("id", {"cnn_4": found}, {"cnn_4": {}})})
    scores = Scores(
        {"macs": 12.0, "theoretical_speedup": None, "params_nonzero": 7},
        {"theoretical_speedup": "the multiply-adds of the reference are a lower bound"},
    )
    costs.add_to(scores, "big", ModelEntry(name="cnn_4"))
    assert scores.metrics["theoretical_speedup"] == 2.0
    assert scores.metrics["params_nonzero"] == 7
    assert "theoretical_speedup" not in scores.reasons
