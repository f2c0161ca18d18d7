"""Edges of the quality metrics: ties, absent classes, the two-class case, per-class recall."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from kdbench.metrics import Undefined, score
from kdbench.metrics.quality import (
    balanced_accuracy,
    brier,
    generalization_gap,
    macro_f1,
    nll,
    recall_per_class,
    top1,
    top5,
)


def test_a_constant_model_is_right_only_on_the_class_that_ties_fall_to() -> None:
    logits, labels = torch.zeros(10, 10), torch.arange(10)
    values, _ = score({"logits": logits, "labels": labels})
    assert values["top1"] == 0.1
    assert values["top5"] == 0.5
    assert values["nll"] == pytest.approx(math.log(10), rel=1e-15)
    assert values["brier"] == pytest.approx(0.9, rel=1e-15)


def test_ties_rank_the_lower_class_first_in_top5_as_in_top1() -> None:
    logits = torch.tensor([[1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]])
    inside = [top5(logits, torch.tensor([label])) for label in range(7)]
    assert inside == [0, 1, 1, 1, 1, 1, 0]


def test_top5_needs_more_than_five_classes() -> None:
    with pytest.raises(Undefined, match="top-5 needs more than 5 classes"):
        top5(torch.zeros(3, 5), torch.tensor([0, 1, 2]))
    values, reasons = score({"logits": torch.zeros(3, 5), "labels": torch.tensor([0, 1, 2])})
    assert values["top5"] is None
    assert reasons["top5"] == "top-5 needs more than 5 classes"
    assert top5(torch.zeros(3, 6), torch.tensor([0, 4, 5])) == pytest.approx(2 / 3)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=20))
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true", "ignore:A single label was found")
def test_absent_classes_are_treated_as_scikit_learn_treats_them(pairs: list[tuple[int, int]]) -> None:
    predictions, labels = torch.tensor(pairs).unbind(1)
    y_pred, y_true = predictions.numpy(), labels.numpy()
    assert balanced_accuracy(predictions, labels) == pytest.approx(
        sk.balanced_accuracy_score(y_true, y_pred), rel=1e-12
    )
    assert macro_f1(predictions, labels) == pytest.approx(
        sk.f1_score(y_true, y_pred, average="macro", zero_division=0), rel=1e-12
    )
    expected = sk.recall_score(y_true, y_pred, labels=range(6), average=None, zero_division=np.nan)
    found = recall_per_class(predictions, labels, 6)
    assert [np.nan if recall is None else recall for recall in found] == pytest.approx(expected, nan_ok=True)


def test_recall_per_class_gives_every_class_an_entry() -> None:
    predictions, labels = torch.tensor([0, 0, 3, 1]), torch.tensor([0, 0, 3, 3])
    assert recall_per_class(predictions, labels, 5) == [1.0, None, None, 0.5, None]
    assert recall_per_class(predictions[:0], labels[:0], 2) == [None, None]


@pytest.mark.parametrize(
    ("predictions", "labels", "message"),
    [
        ([0, 1], [0], r"shapes \(2,\) and \(1,\), expected \(N,\) twice"),
        ([[0, 1]], [[0, 1]], r"shapes \(1, 2\) and \(1, 2\)"),
        ([0, 3], [0, 1], "hold classes beyond 2"),
        ([0, 1], [0, 3], "hold classes beyond 2"),
    ],
)
def test_recall_per_class_refuses(predictions: list, labels: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recall_per_class(torch.tensor(predictions), torch.tensor(labels), 3)


def test_nll_is_not_clipped() -> None:
    log_probs = torch.tensor([[0.0, -2e4]], dtype=torch.float64)
    assert nll(log_probs, torch.tensor([1])) == 2e4
    assert nll(torch.tensor([[0.0, -math.inf]], dtype=torch.float64), torch.tensor([1])) == math.inf


def test_brier_runs_from_0_to_2() -> None:
    sure = torch.tensor([[0.0, -1e4]], dtype=torch.float64)
    assert brier(sure, torch.tensor([0])) == 0
    assert brier(sure, torch.tensor([1])) == 2


def test_generalization_gap_is_positive_where_train_is_better() -> None:
    right, wrong = torch.tensor([1, 1, 1]), torch.tensor([1, 0])
    assert generalization_gap(wrong, torch.tensor([1, 1]), right, torch.tensor([1, 1, 1])) == 0.5
    assert generalization_gap(right, torch.tensor([1, 1, 1]), wrong, torch.tensor([1, 1])) == -0.5


def test_shares_are_exact_quotients() -> None:
    """A float32 mean of ten million hits would have lost digits; counts do not."""
    labels = torch.zeros(3_000_001, dtype=torch.int8)
    predictions = labels.clone()
    predictions[0] = 1
    assert top1(predictions, labels) == 3_000_000 / 3_000_001
