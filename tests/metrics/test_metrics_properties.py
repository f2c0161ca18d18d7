"""Properties that hold for any logits, and logits as extreme as float32 networks give."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from kdbench.metrics import catalogue, score
from kdbench.metrics.divergence import js_divergences, kl_divergences
from kdbench.metrics.tensors import log_probabilities
from kdbench.targets import find_target

# Eighths are exact in float64 under the shifts below; ±1e4 are logits whose softmax underflows to 0 and 1.
LOGIT = st.integers(-160, 160).map(lambda eighths: eighths / 8) | st.sampled_from([-1e4, 1e4, 9999.5])


@st.composite
def inputs(draw: st.DrawFn) -> dict[str, Tensor]:
    count, classes = draw(st.integers(1, 12)), draw(st.integers(2, 8))
    logits = hnp.arrays(np.float64, (count, classes), elements=LOGIT)
    labels = hnp.arrays(np.int64, count, elements=st.integers(0, classes - 1))
    return {
        "logits": torch.from_numpy(draw(logits)),
        "labels": torch.from_numpy(draw(labels)),
        "teacher_logits": torch.from_numpy(draw(logits)),
        "train_logits": torch.from_numpy(draw(logits)),
        "train_labels": torch.from_numpy(draw(labels)),
        "validation_logits": torch.from_numpy(draw(logits)),
        "validation_labels": torch.from_numpy(draw(labels)),
    }


@given(inputs())
def test_the_joint_outcomes_partition_the_examples(tensors: dict[str, Tensor]) -> None:
    v, _ = score(tensors)
    student = (tensors["logits"].argmax(1) == tensors["labels"]).double().mean().item()
    teacher = (tensors["teacher_logits"].argmax(1) == tensors["labels"]).double().mean().item()
    total = v["both_right"] + v["teacher_only"] + v["student_only"] + v["both_wrong"]
    assert total == pytest.approx(1, abs=1e-12)
    assert v["both_right"] + v["student_only"] == pytest.approx(student, abs=1e-12)
    assert v["both_right"] + v["teacher_only"] == pytest.approx(teacher, abs=1e-12)
    assert v["negative_flips"] - v["positive_flips"] == pytest.approx(teacher - student, abs=1e-12)
    assert v["agreement"] == pytest.approx(1 - v["churn"], abs=1e-12)
    assert v["churn"] >= v["negative_flips"] + v["positive_flips"] - 1e-12


@given(inputs())
def test_a_student_equal_to_its_teacher(tensors: dict[str, Tensor]) -> None:
    v, reasons = score(tensors | {"logits": tensors["teacher_logits"].clone()})
    assert v["kl_teacher_student"] == v["kl_student_teacher"] == v["js"] == v["churn"] == 0
    assert v["agreement"] == v["probability_loyalty"] == 1
    for name in ("cohen_kappa", "error_consistency", "inherited_errors", "retention"):
        assert v[name] == 1 or name in reasons
    assert v["teacher_only"] == v["student_only"] == 0


@given(inputs(), st.sampled_from([-1024.0, 0.125, 65536.0]))
def test_a_constant_added_to_a_row_changes_nothing(tensors: dict[str, Tensor], shift: float) -> None:
    moved = dict(tensors)
    for name in ("logits", "teacher_logits", "train_logits", "validation_logits"):
        rows = torch.arange(len(tensors[name]), dtype=torch.float64)[:, None]
        moved[name] = tensors[name] + shift * (rows - 1)
    before, after = score(tensors), score(moved)
    assert after[1] == before[1]
    for name, value in before[0].items():
        assert after[0][name] == (None if value is None else pytest.approx(value, rel=1e-9, abs=1e-12))


@given(inputs())
def test_exchanging_student_and_teacher(tensors: dict[str, Tensor]) -> None:
    swapped = tensors | {"logits": tensors["teacher_logits"], "teacher_logits": tensors["logits"]}
    v, reasons = score(tensors)
    w, _ = score(swapped)
    for name in ("agreement", "churn", "js", "probability_loyalty", "cohen_kappa", "error_consistency"):
        assert v[name] == w[name]
    assert v["kl_teacher_student"] == w["kl_student_teacher"]
    assert v["teacher_only"] == w["student_only"]
    if "retention" not in reasons and v["retention"] > 0:
        assert v["retention"] * w["retention"] == pytest.approx(1)


@given(inputs())
def test_divergences_stay_in_their_range(tensors: dict[str, Tensor]) -> None:
    p, q = log_probabilities(tensors["logits"]), log_probabilities(tensors["teacher_logits"])
    forward, backward, js = kl_divergences(p, q), kl_divergences(q, p), js_divergences(p, q)
    distance = (p.exp() - q.exp()).abs().sum(dim=1) / 2
    for kl in (forward, backward):
        assert kl.isfinite().all()
        assert (kl >= 2 * distance**2 - 1e-12).all(), "Pinsker's inequality"
    assert ((js >= 0) & (js <= math.log(2))).all()
    assert (js <= (forward + backward) / 4 + 1e-12).all(), "convexity: KL(p ‖ m) is at most half of KL(p ‖ q)"


@given(inputs())
def test_order_of_examples_does_not_matter(tensors: dict[str, Tensor]) -> None:
    flipped, _ = score({name: tensor.flip(0) for name, tensor in tensors.items()})
    for name, value in score(tensors)[0].items():
        assert flipped[name] == (None if value is None else pytest.approx(value, rel=1e-12, abs=1e-12))


def test_a_class_that_never_moves_is_seen_as_such_far_from_zero() -> None:
    """The third logit is always the mean less 0.2083: no correlation of it, wherever the rows lie."""
    student = torch.tensor([[0.125, 0.5, 0.0], [0.5, 0.125, 0.0]], dtype=torch.float64)
    teacher = torch.tensor([[1.0, 2.0, 4.0], [3.0, 1.0, 0.0]], dtype=torch.float64)
    for shift in (0.0, 65536.0, 2.0**40):
        moved = student + torch.tensor([[-shift], [0.0]])
        _, reasons = score({"logits": moved, "teacher_logits": teacher})
        assert reasons["correlation_gap"] == "a centred logit of the student is the same for every example"


def test_extreme_and_opposite() -> None:
    """A student that is sure, wrong, and the teacher's opposite: closed forms at logits of ±1e4."""
    student = torch.tensor([[1e4, -1e4], [-1e4, 1e4]])
    values, reasons = score({"logits": student, "teacher_logits": -student, "labels": torch.tensor([1, 0])})
    without = {name: reason for name, reason in reasons.items() if not reason.startswith("needs the")}
    assert without.keys() == {"top5", "inherited_errors", "kl_non_target", "correlation_gap", "error_auroc"}
    expected = {
        "top1": 0, "balanced_accuracy": 0, "macro_f1": 0, "nll": 2e4, "brier": 2, "ece": 1,
        "agreement": 0, "cohen_kappa": -1, "error_consistency": 0,
        "kl_teacher_student": 2e4, "kl_student_teacher": 2e4, "js": math.log(2), "probability_loyalty": 0,
        "churn": 1, "negative_flips": 1, "positive_flips": 0,
        "both_right": 0, "teacher_only": 1, "student_only": 0, "both_wrong": 0,
        "retention": 0, "retention_chance_corrected": -1,
        "mce": 1, "ece_adaptive": 1, "classwise_ece": 1,
        "confidence_mean": 1, "overconfidence": 1, "entropy_mean": 0,
        "logit_mse": 4e8, "logit_correlation": -1, "kl_target": 2e4,
        "aurc": 1, "e_aurc": 0, "accuracy_at_80_coverage": 0, "accuracy_at_90_coverage": 0,
        # Every class loses all, as all do together.
        "worst_class_drop": 0, "worst_decile_drop": 0, "std_class_delta": 0, "worst_class_recall": 0,
    }  # fmt: skip
    assert {name: values[name] for name in expected} == pytest.approx(expected, rel=1e-14)
    assert expected.keys() | reasons.keys() == catalogue(find_target("single_label")).keys()


def test_extreme_student_of_an_undecided_teacher() -> None:
    """p_s = (1, 0, 0) and p_t uniform: KL(t ‖ s) is the mean logit gap less ln 3, KL(s ‖ t) is ln 3."""
    values, _ = score(
        {"logits": torch.tensor([[1e4, -1e4, 0.0]]), "teacher_logits": torch.full((1, 3), -1e4)}
    )
    assert values["kl_teacher_student"] == pytest.approx((0 + 2e4 + 1e4) / 3 - math.log(3), rel=1e-14)
    assert values["kl_student_teacher"] == pytest.approx(math.log(3), rel=1e-14)
    # m = (2/3, 1/6, 1/6): JS = H(m) − ½·H(p_t) − ½·0.
    expected = -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 6)) - math.log(3) / 2
    assert values["js"] == pytest.approx(expected, rel=1e-14)


def test_a_probability_that_is_zero_in_float64_gives_infinity_as_a_reason_never_nan() -> None:
    wide = torch.tensor([[1e308, -1e308]], dtype=torch.float64)
    values, reasons = score({"logits": wide, "teacher_logits": -wide, "labels": torch.tensor([1])})
    for name in ("nll", "kl_teacher_student", "kl_student_teacher"):
        assert values[name] is None
        assert reasons[name] == "the value is not finite: inf"
    assert values["js"] == pytest.approx(math.log(2))
    assert values["brier"] == 2
    same, _ = score({"logits": wide, "teacher_logits": wide})
    assert same["kl_teacher_student"] == same["js"] == 0


@pytest.mark.parametrize("epsilon", [1e-3, 1e-5, 1e-7])
def test_divergences_of_near_twins_keep_their_digits(epsilon: float) -> None:
    """To second order KL = Σ δ²/(2p) and JS = Σ δ²/(8p): what is left after the first order cancels."""
    p = torch.tensor([[0.5, 0.5]], dtype=torch.float64)
    q = p + torch.tensor([[epsilon, -epsilon]], dtype=torch.float64)
    assert js_divergences(p.log(), q.log()).item() == pytest.approx(epsilon**2 / 2, rel=2e-3)
    # KL has first-order terms that cancel only across classes: its error is that of a logarithm, 1e-16.
    assert kl_divergences(p.log(), q.log()).item() == pytest.approx(2 * epsilon**2, rel=1e-5, abs=3e-16)
