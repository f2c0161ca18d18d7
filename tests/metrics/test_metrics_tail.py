"""Accuracy by the size of the training classes: thresholds, means over classes, and when there is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import recall_score

from kdbench.metrics import Undefined, score
from kdbench.metrics.tail import accuracy_few, accuracy_many, accuracy_medium

SIZES = [500, 101, 100, 20, 19, 1]
GROUPS = {"many": [0, 1], "medium": [2, 3], "few": [4, 5]}
METRICS = {"many": accuracy_many, "medium": accuracy_medium, "few": accuracy_few}


def train_labels(sizes: list[int]) -> torch.Tensor:
    return torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))


@pytest.mark.parametrize("group", GROUPS)
def test_groups_end_where_the_source_puts_their_thresholds(group: str) -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, len(SIZES), 400)
    predictions = np.where(random.random(400) < 0.6, labels, random.integers(0, len(SIZES), 400))
    expected = recall_score(labels, predictions, labels=GROUPS[group], average="macro")
    found = METRICS[group](torch.tensor(predictions), torch.tensor(labels), train_labels(SIZES), len(SIZES))
    assert found == pytest.approx(expected, rel=1e-12)


def test_every_class_counts_alike_however_many_test_images_it_has() -> None:
    labels = torch.tensor([0] * 9 + [1])
    predictions = torch.zeros(10, dtype=torch.long)
    assert accuracy_many(predictions, labels, train_labels([400, 200]), 2) == 0.5


@pytest.mark.parametrize(
    ("sizes", "group", "reason"),
    [
        ([54, 54], "medium", "training is balanced: 54 to 54 images a class"),
        ([5421, 6742], "many", "training is balanced: 5,421 to 6,742 images a class"),
        ([500, 5], "medium", "no class has 20 to 100 training images"),
        ([5400, 54], "few", "no class has fewer than 20 training images"),
        ([90, 9], "many", "no class has more than 100 training images"),
        ([500, 200, 5], "few", "no test image is of a class that has fewer than 20 training images"),
    ],
)
def test_without_a_group_there_is_a_reason(sizes: list[int], group: str, reason: str) -> None:
    labels = torch.tensor([0, 1])
    with pytest.raises(Undefined, match=reason):
        METRICS[group](labels, labels, train_labels(sizes), len(sizes))


def test_a_class_that_training_lacks_is_few_shot_and_score_finds_all_three() -> None:
    logits = torch.eye(4)
    tensors = {
        "logits": logits,
        "labels": torch.tensor([0, 1, 2, 0]),
        "train_labels": train_labels([150, 50]),
    }
    values, reasons = score(tensors)
    assert [values[f"accuracy_{group}"] for group in GROUPS] == [0.5, 1.0, 1.0]
    values, reasons = score({"logits": logits, "labels": torch.tensor([0, 1, 2, 0])})
    assert values["accuracy_few"] is None and reasons["accuracy_few"] == "needs the labels of the train split"
