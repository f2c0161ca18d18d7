"""Selective prediction and ranking: ties, perfect and reversed orders, and what has no value."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from kdbench.metrics import Undefined
from kdbench.metrics.calibration import ece_adaptive
from kdbench.metrics.selection import (
    accuracy_at_80_coverage,
    accuracy_at_90_coverage,
    aurc,
    e_aurc,
    error_auroc,
)


def binary(confidences: list[float]) -> torch.Tensor:
    p = torch.tensor(confidences, dtype=torch.float64)
    return torch.stack([p, 1 - p], dim=1).log()


def outcome(right: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(len(right), dtype=torch.long), 1 - torch.tensor(right)


def test_ties_are_the_mean_over_all_orders() -> None:
    """Four examples, three of one confidence: AURC averaged over the six orders of the tied."""
    errors = [0, 1, 0, 1]
    orders = [[errors[0], *order] for order in itertools.permutations(errors[1:])]
    areas = [np.mean([np.mean(order[:kept]) for kept in range(1, 5)]) for order in orders]
    found = aurc(binary([0.9, 0.6, 0.6, 0.6]), *outcome([1, 0, 1, 0]))
    assert found == pytest.approx(np.mean(areas), rel=1e-14)


def test_ties_do_not_depend_on_the_order_of_the_data() -> None:
    log_probs, (predictions, labels) = binary([0.6] * 7), outcome([1, 1, 1, 0, 0, 1, 0])
    for function in (aurc, e_aurc, accuracy_at_80_coverage, error_auroc, ece_adaptive):
        forward = function(log_probs, predictions, labels)
        assert forward == pytest.approx(function(log_probs, predictions, labels.flip(0)), rel=1e-14)
    assert accuracy_at_80_coverage(log_probs, predictions, labels) == pytest.approx(4 / 7)
    assert error_auroc(log_probs, predictions, labels) == 0.5


def test_rounding_of_the_last_digits_is_a_tie() -> None:
    log_probs = binary([0.7, 0.7 + 1e-15, 0.7 - 1e-15])
    assert error_auroc(log_probs, *outcome([1, 0, 1])) == 0.5


@pytest.mark.parametrize("errors", [1, 3, 9])
def test_the_best_order_has_no_excess_and_approaches_its_limit(errors: int) -> None:
    count = 2000
    log_probs = binary(np.linspace(0.99, 0.51, count).tolist())
    right = [1] * (count - 100 * errors) + [0] * 100 * errors
    assert e_aurc(log_probs, *outcome(right)) == 0
    rate = errors * 100 / count
    limit = rate + (1 - rate) * math.log(1 - rate)
    assert aurc(log_probs, *outcome(right)) == pytest.approx(limit, abs=2e-3), "Geifman et al. 2019, eq. 2"
    assert error_auroc(log_probs, *outcome(right)) == 1
    assert error_auroc(log_probs, *outcome(right[::-1])) == 0


def test_coverage_keeps_at_least_its_share() -> None:
    log_probs = binary([0.9, 0.8, 0.7, 0.6])
    assert accuracy_at_80_coverage(log_probs, *outcome([1, 1, 0, 0])) == 0.5, "⌈3.2⌉ of 4 are kept"
    one = binary([0.9])
    assert accuracy_at_90_coverage(one, *outcome([0])) == 0
    ten = binary([0.99 - i / 100 for i in range(10)])
    assert accuracy_at_90_coverage(ten, *outcome([1] * 9 + [0])) == 1
    assert accuracy_at_80_coverage(ten, *outcome([1] * 8 + [0] * 2)) == 1


@pytest.mark.parametrize(("right", "word"), [([1, 1], "right"), ([0, 0], "wrong")])
def test_without_errors_or_successes_there_is_nothing_to_detect(right: list[int], word: str) -> None:
    with pytest.raises(Undefined, match=f"every prediction is {word}"):
        error_auroc(binary([0.9, 0.8]), *outcome(right))


def test_auroc_with_ties_against_scikit_learn() -> None:
    random = np.random.default_rng(0)
    confidences = random.integers(51, 60, size=200) / 100
    right = random.integers(2, size=200)
    found = error_auroc(binary(confidences.tolist()), *outcome(right.tolist()))
    assert found == pytest.approx(roc_auc_score(right, confidences), rel=1e-14)


def test_equal_mass_with_fewer_examples_than_bins() -> None:
    """Each of two examples has a bin of its own: |1 − 0.9| and |0 − 0.6|."""
    assert ece_adaptive(binary([0.9, 0.6]), *outcome([1, 0])) == pytest.approx((0.1 + 0.6) / 2)
