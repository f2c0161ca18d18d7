"""Reliability bins and the expected calibration error: edges, empty bins, an independent binning."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdbench.metrics import score
from kdbench.metrics.calibration import classwise_ece, ece, reliability_bins
from kdbench.metrics.tensors import log_probabilities


def test_a_confidence_of_one_is_in_the_last_bin_and_an_edge_in_the_bin_below() -> None:
    confidences = torch.tensor([0.0, 0.25, 0.5, 0.500001, 0.75, 1.0, 1.0], dtype=torch.float64)
    found = reliability_bins(confidences, torch.ones(7, dtype=torch.bool), bins=4)
    assert found.edges == (0, 0.25, 0.5, 0.75, 1)
    assert found.counts == (2, 1, 2, 2)


@pytest.mark.parametrize("classes", [3, 5])
def test_a_confidence_that_rounding_lifts_above_an_edge_is_on_it(classes: int) -> None:
    """A third is the upper end of the fifth of fifteen bins, a fifth that of the third."""
    confidence = log_probabilities(torch.zeros(1, classes)).exp().amax(dim=1)
    around = torch.cat([confidence - 1e-15, confidence, confidence + 1e-15])
    found = reliability_bins(around, torch.ones(3, dtype=torch.bool))
    assert found.counts[15 // classes - 1] == 3


@pytest.mark.parametrize("classes", [3, 5])
def test_classwise_bins_have_the_same_edges(classes: int) -> None:
    """One row above the edge and one on it, as rounding has it: in one bin their gaps cancel in part."""
    p = torch.full((2, classes), 1 / classes, dtype=torch.float64)
    p[0, 0], p[1, 0] = p[0, 0] + 1e-15, p[1, 0] - 1e-15
    labels = torch.tensor([0, 1])
    # each of the two classes has a share of ½ against 1/K, each other class 0 against it
    expected = (2 * abs(0.5 - 1 / classes) + (classes - 2) / classes) / classes
    assert classwise_ece(p.log(), labels) == pytest.approx(expected)


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


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40),
    st.integers(1, 20),
)
def test_bins_against_numpy(examples: list[tuple[float, bool]], bins: int) -> None:
    confidence, correct = (np.array(column) for column in zip(*examples, strict=True))
    found = reliability_bins(torch.from_numpy(confidence), torch.from_numpy(correct), bins)
    assert sum(found.counts) == len(examples)
    for index, (low, high) in enumerate(zip(found.edges, found.edges[1:], strict=False)):
        # an edge reaches as far as rounding does
        inside = (confidence > low + 2**-40 if index else confidence >= low) & (confidence <= high + 2**-40)
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
