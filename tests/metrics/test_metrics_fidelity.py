"""Fidelity and joint outcomes: hand-computed cases, and every case without a value with its reason."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from kdbench.metrics import Undefined, score
from kdbench.metrics.divergence import js_divergences, kl_divergences
from kdbench.metrics.fidelity import cohen_kappa, error_consistency, kl_teacher_student, probability_loyalty
from kdbench.metrics.outcomes import (
    churn,
    inherited_errors,
    negative_flips,
    positive_flips,
    retention,
    retention_chance_corrected,
)

# Ten examples of three classes. Right: the student on 0-3, 6, 7; the teacher on 0-5, 8; neither on 9.
LABELS = torch.tensor([0, 0, 1, 1, 2, 2, 0, 1, 2, 0])
STUDENT = torch.tensor([0, 0, 1, 1, 1, 0, 0, 1, 0, 1])
TEACHER = torch.tensor([0, 0, 1, 1, 2, 2, 2, 2, 2, 1])


def one_hot_logits(classes: Tensor, num_classes: int = 3) -> Tensor:
    return 5.0 * torch.nn.functional.one_hot(classes, num_classes)


def test_ten_examples_by_hand() -> None:
    values, _ = score(
        {
            "logits": one_hot_logits(STUDENT),
            "teacher_logits": one_hot_logits(TEACHER),
            "labels": LABELS,
        }
    )
    hand = {
        "agreement": 0.5, "churn": 0.5,
        "both_right": 0.4, "teacher_only": 0.3, "student_only": 0.2, "both_wrong": 0.1,
        "negative_flips": 0.3, "positive_flips": 0.2,
        # The teacher errs on 6, 7 and 9; the student follows it on 9.
        "inherited_errors": 1 / 3,
        "retention": 6 / 7,
        "retention_chance_corrected": (6 / 10 - 1 / 3) / (7 / 10 - 1 / 3),
        # Student predicts 0, 1, 2: 5, 5, 0 times; teacher 2, 3, 5 times: e = (10 + 15 + 0)/100.
        "cohen_kappa": (0.5 - 0.25) / (1 - 0.25),
        # o = 0.4 + 0.1, e = 0.6·0.7 + 0.4·0.3 = 0.54.
        "error_consistency": (0.5 - 0.54) / (1 - 0.54),
    }  # fmt: skip
    assert {name: values[name] for name in hand} == pytest.approx(hand, rel=1e-13)


def test_divergences_are_means_over_examples_not_over_classes() -> None:
    """Two examples, one of divergence ln 2 and one of 0, among four classes: the mean is (ln 2)/2."""
    teacher = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]], dtype=torch.float64).log()
    student = torch.full((2, 4), 0.25, dtype=torch.float64).log()
    assert kl_divergences(teacher, student).tolist() == pytest.approx([math.log(2), 0], abs=1e-15)
    assert kl_teacher_student(student, teacher) == pytest.approx(math.log(2) / 2, rel=1e-15)


def test_a_class_of_probability_zero_contributes_its_limit() -> None:
    p = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64).log()
    q = torch.tensor([[0.5, 0.5, 0.0]], dtype=torch.float64).log()
    assert kl_divergences(p, q).item() == pytest.approx(math.log(2), rel=1e-15)
    assert kl_divergences(q, p).item() == math.inf
    js = js_divergences(p, q).item()
    assert js == pytest.approx(0.5 * math.log(4 / 3) + 0.25 * math.log(2 / 3) + 0.25 * math.log(2), rel=1e-14)
    assert js_divergences(p, p).item() == kl_divergences(p, p).item() == 0


def test_loyalty_takes_the_root_for_each_example() -> None:
    """One example without overlap (JS = 1 bit), one identical: mean(1 − 1, 1 − 0), not 1 − √½."""
    student = torch.tensor([[0.0, -1e4], [0.0, 0.0]], dtype=torch.float64).log_softmax(1)
    teacher = torch.tensor([[-1e4, 0.0], [0.0, 0.0]], dtype=torch.float64).log_softmax(1)
    assert probability_loyalty(js_divergences(student, teacher)) == pytest.approx(0.5, rel=1e-14)


def test_temperature_has_no_factor() -> None:
    """T = 1 of the logits as given: halving logits is not the same as a temperature with its T² put back."""
    logits = torch.tensor([[2.0, 0.0]])
    values, _ = score({"logits": logits, "teacher_logits": -logits})
    p = 1 / (1 + math.exp(-2))
    assert values["kl_teacher_student"] == pytest.approx((2 * p - 1) * 2, rel=1e-14)


ZEROS, ONES = torch.tensor([0, 0, 0]), torch.tensor([1, 1, 1])


def test_kappa_of_constant_predictions() -> None:
    with pytest.raises(Undefined, match="both models predict one and the same class throughout"):
        cohen_kappa(ZEROS, ZEROS)
    assert cohen_kappa(ZEROS, ONES) == 0, "two different constants: no agreement, and none by chance"
    assert cohen_kappa(torch.tensor([0, 1, 1]), ZEROS) == 0, "one constant: all agreement is by chance"
    assert cohen_kappa(torch.tensor([0, 1]), torch.tensor([1, 0])) == -1


def test_error_consistency_without_errors_or_without_success() -> None:
    with pytest.raises(Undefined, match="both models are right on every example"):
        error_consistency(ZEROS, ZEROS, ZEROS)
    with pytest.raises(Undefined, match="both models are wrong on every example"):
        error_consistency(ONES, ONES, ZEROS)
    assert error_consistency(ZEROS, ONES, ZEROS) == 0


def test_inherited_errors_of_a_teacher_that_makes_none() -> None:
    with pytest.raises(Undefined, match="the teacher is never wrong"):
        inherited_errors(ONES, ZEROS, ZEROS)
    assert inherited_errors(torch.tensor([0, 2, 1]), ONES, ZEROS) == pytest.approx(1 / 3)


def test_retention_of_a_teacher_that_is_never_right() -> None:
    with pytest.raises(Undefined, match="the teacher is never right"):
        retention(ZEROS, ONES, ZEROS)
    assert retention(ZEROS, torch.tensor([0, 1, 1]), ZEROS) == 3, "it may exceed 1"


@pytest.mark.parametrize("teacher_right", [0, 1])
def test_retention_above_chance_needs_a_teacher_above_chance(teacher_right: int) -> None:
    """With three classes a third is chance, decided on integers: 1/3 in floats must not slip past it."""
    teacher = torch.where(torch.arange(3) < teacher_right, 0, 1)
    with pytest.raises(Undefined, match="the teacher is not above chance"):
        retention_chance_corrected(ZEROS, teacher, ZEROS, 3)


def test_retention_above_chance_is_negative_under_chance() -> None:
    assert retention_chance_corrected(ONES, ZEROS, ZEROS, 3) == pytest.approx(-0.5)


def test_churn_counts_errors_that_change_into_other_errors() -> None:
    student, teacher, labels = torch.tensor([1, 0]), torch.tensor([2, 0]), torch.tensor([0, 0])
    assert churn(student, teacher) == 0.5
    assert negative_flips(student, teacher, labels) == positive_flips(student, teacher, labels) == 0


def test_reasons_reach_the_record() -> None:
    """A perfect pair: what has no value says why, and the rest has its value."""
    perfect = one_hot_logits(torch.tensor([0, 0, 0]))
    values, reasons = score({"logits": perfect, "teacher_logits": perfect, "labels": ZEROS})
    given = {name: reason for name, reason in reasons.items() if not reason.startswith("needs the")}
    assert given == {
        "top5": "top-5 needs more than 5 classes",
        "correlation_gap": "a centred logit of the student is the same for every example",
        "error_auroc": "every prediction is right",
        **dict.fromkeys(
            ("worst_class_drop", "worst_decile_drop", "std_class_delta"), "only one class has labels"
        ),
        "cohen_kappa": "both models predict one and the same class throughout",
        "error_consistency": "both models are right on every example",
        "inherited_errors": "the teacher is never wrong",
    }
    assert values["retention"] == values["retention_chance_corrected"] == values["agreement"] == 1
