"""Scores under shift: each equals the metric of its name, and the means leave nothing out silently."""

from __future__ import annotations

import pytest
import torch

from kdbench.metrics import score
from kdbench.metrics.robustness import COLUMNS, corruption_means, shift_scores

NAMES = {column.name for column in COLUMNS}


def point(accuracy: float | None, agreement: float | None = 0.5) -> dict[str, float | None]:
    known = accuracy is not None
    return {"accuracy": accuracy, "ece": 0.1 if known else None, "nll": 1.0 if known else None} | {
        "agreement": agreement if known else None
    }


def test_scores_of_a_shift_are_those_of_the_catalogue() -> None:
    generator = torch.Generator().manual_seed(0)
    mine, theirs = torch.randn(2, 50, 7, generator=generator)
    labels = torch.randint(7, (50,), generator=generator)
    values, _ = score({"logits": mine, "labels": labels, "teacher_logits": theirs})
    found = shift_scores(mine, labels, theirs.argmax(1))
    names = {"accuracy": "top1", "ece": "ece", "nll": "nll", "agreement": "agreement"}
    assert found == {name: values[source] for name, source in names.items()}
    assert shift_scores(mine, labels, None) == found | {"agreement": None}


def test_means_weigh_every_corruption_and_severity_alike() -> None:
    values, reasons = corruption_means(point(0.9), [point(0.8, 0.7), point(0.4, 0.2), point(0.6, 0.6)])
    assert reasons == {} and values.keys() == NAMES
    assert values["corruption_accuracy_mean"] == pytest.approx(0.6)
    assert values["corruption_accuracy_drop"] == pytest.approx(0.3)
    assert values["corruption_nll_mean"] == pytest.approx(1.0)
    assert values["agreement_corrupted"] == pytest.approx(0.5)


def test_one_shift_with_logits_that_are_not_finite_leaves_no_mean() -> None:
    logits = torch.tensor([[0.0, float("nan")]])
    broken = shift_scores(logits, torch.tensor([0]), torch.tensor([0]))
    assert set(broken.values()) == {None}
    values, reasons = corruption_means(point(0.9), [point(0.8), broken])
    assert set(values.values()) == {None}
    assert reasons == dict.fromkeys(NAMES, "logits are not finite on corrupted images")


def test_clean_logits_that_are_not_finite_are_not_said_to_be_corrupted_ones() -> None:
    values, reasons = corruption_means(point(None), [point(0.8), point(0.6)])
    assert values["corruption_accuracy_mean"] == pytest.approx(0.7)
    assert reasons == {"corruption_accuracy_drop": "logits are not finite on clean images"}


def test_the_teacher_has_no_agreement_and_says_why() -> None:
    values, reasons = corruption_means(point(0.9, None), [point(0.8, None)], no_agreement="it is the teacher")
    assert reasons == {"agreement_corrupted": "it is the teacher"}
    assert {name for name, value in values.items() if value is None} == {"agreement_corrupted"}
