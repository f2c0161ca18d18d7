"""Reliability bins and the expected calibration error: edges, empty bins, an independent binning."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdbench.metrics import score
from kdbench.metrics.calibration import ece, reliability_bins


def test_a_confidence_of_one_is_in_the_last_bin_and_an_edge_in_the_bin_below() -> None:
    confidences = torch.tensor([0.0, 0.25, 0.5, 0.500001, 0.75, 1.0, 1.0], dtype=torch.float64)
    found = reliability_bins(confidences, torch.ones(7, dtype=torch.bool), bins=4)
    assert found.edges == (0, 0.25, 0.5, 0.75, 1)
    assert found.counts == (2, 1, 2, 2)


def test_fifteen_bins_by_default_and_an_empty_bin_has_no_mean() -> None:
    found = reliability_bins(torch.tensor([0.95, 0.99]).double(), torch.tensor([True, False]))
    assert len(found.edges) == 16
    assert found.counts == (0,) * 14 + (2,)
    assert found.confidence == (*[None] * 14, pytest.approx(0.97))
    assert found.accuracy == (*[None] * 14, 0.5)


def test_ece_of_sure_predictions_is_their_error_rate() -> None:
    """Confidence 1 everywhere, three of four right: one bin, |0.75 − 1|."""
    log_probs = torch.tensor([[0.0, -1e4]] * 4, dtype=torch.float64)
    predictions = torch.zeros(4, dtype=torch.int64)
    assert ece(log_probs, predictions, torch.tensor([0, 0, 0, 1])) == 0.25
    assert ece(log_probs, predictions, torch.zeros(4, dtype=torch.int64)) == 0


def test_gaps_of_opposite_sign_cancel_within_a_bin_and_not_between_bins() -> None:
    log_probs = torch.tensor([[0.55, 0.45], [0.95, 0.05]], dtype=torch.float64).log()
    predictions, labels = torch.tensor([0, 0]), torch.tensor([0, 1])
    assert ece(log_probs, predictions, labels) == pytest.approx((0.45 + 0.95) / 2)
    assert ece(log_probs, predictions, labels, bins=1) == pytest.approx(abs(0.5 - 0.75))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40),
    st.integers(1, 20),
)
def test_bins_against_numpy(examples: list[tuple[float, bool]], bins: int) -> None:
    confidence, correct = (np.array(column) for column in zip(*examples, strict=True))
    found = reliability_bins(torch.from_numpy(confidence), torch.from_numpy(correct), bins)
    assert sum(found.counts) == len(examples)
    for index, (low, high) in enumerate(zip(found.edges, found.edges[1:], strict=False)):
        inside = (confidence > low if index else confidence >= low) & (confidence <= high)
        assert found.counts[index] == inside.sum()
        if inside.any():
            assert found.confidence[index] == pytest.approx(confidence[inside].mean(), abs=1e-12)
            assert found.accuracy[index] == pytest.approx(correct[inside].mean(), abs=1e-12)
        else:
            assert found.confidence[index] is found.accuracy[index] is None


def test_a_model_that_knows_its_chances_is_calibrated() -> None:
    """Labels drawn with frequency exactly p: 7 of 10 are of the class given 0.7."""
    logits = torch.tensor([[0.7, 0.3]], dtype=torch.float64).log().expand(10, 2)
    values, _ = score({"logits": logits, "labels": torch.tensor([0] * 7 + [1] * 3)})
    assert values["ece"] == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize(
    ("confidences", "correct", "bins", "message"),
    [
        ([0.5, 0.5], [True], 15, r"shapes \(2,\) and \(1,\)"),
        ([[0.5]], [[True]], 15, r"shapes \(1, 1\) and \(1, 1\)"),
        ([0.5], [True], 0, "bins is 0, expected at least 1"),
        ([1.5], [True], 15, r"outside \[0, 1\]"),
        ([math.nan], [True], 15, r"outside \[0, 1\]"),
    ],
)
def test_refusals(confidences: list, correct: list, bins: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        reliability_bins(torch.tensor(confidences), torch.tensor(correct), bins)
