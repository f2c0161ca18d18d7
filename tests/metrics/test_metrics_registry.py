"""What `score` promises: lazy shared tensors, None with a reason, errors that name the shapes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import kdbench.metrics
from kdbench.metrics import Undefined, registry, score, tensors
from tests.metrics.given import CLASSES, given


def needing(given: str) -> list[str]:
    """The metrics that have no value without one of the given tensors."""
    return [entry.column.name for entry in registry.ordered() if given in entry.inputs]


@pytest.mark.parametrize(
    ("absent", "text"),
    [
        ("logits", "the student's logits"),
        ("teacher_logits", "the teacher's logits"),
        ("labels", "the labels"),
        ("train_logits", "the logits of the train split"),
        ("train_labels", "the labels of the train split"),
        ("validation_logits", "the logits of the validation split"),
        ("validation_labels", "the labels of the validation split"),
        ("features", "the student's pooled features"),
        ("teacher_features", "the teacher's pooled features"),
        ("temperature", "the temperature of the soft targets"),
    ],
)
def test_absent_tensor(absent: str, text: str) -> None:
    remaining = {name: tensor for name, tensor in given().items() if name != absent}
    values, reasons = score(remaining)
    assert reasons == dict.fromkeys(needing(absent), f"needs {text}")
    assert [name for name, value in values.items() if value is None] == needing(absent)
    assert set(score(remaining, {absent: "by design"})[1].values()) == {"by design"}


def test_what_metrics_need_follows_from_what_their_tensors_are_computed_from() -> None:
    by_size = ["accuracy_many", "accuracy_medium", "accuracy_few"]
    assert needing("train_logits") == ["generalization_gap"]
    assert needing("train_labels") == ["generalization_gap", *by_size]
    assert needing("temperature") == ["teacher_entropy_norm"]
    assert needing("features") == needing("teacher_features") == ["cka_pooled", "cka_pooled_debiased"]
    assert needing("validation_labels") == [
        "temperature_fitted",
        "nll_scaled",
        "ece_scaled",
        "mce_scaled",
        "ece_adaptive_scaled",
        "classwise_ece_scaled",
    ]


def test_fidelity_needs_no_labels_where_its_formula_has_none() -> None:
    values, reasons = score({name: given()[name] for name in ("logits", "teacher_logits")})
    assert values["agreement"] == score(given())[0]["agreement"]
    assert reasons["both_right"] == reasons["top1"] == "needs the labels"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_student_logits_that_are_not_finite_leave_no_metric(bad: float) -> None:
    tensors_given = given()
    tensors_given["logits"][2, 1] = bad
    tensors_given["logits"][5] = bad
    values, reasons = score(tensors_given)
    assert list(reasons) == needing("logits")
    assert set(reasons.values()) == {"NaN or infinity in 2 of 12 examples of the student's logits"}
    assert {values[name] for name in reasons} == {None}


def test_teacher_logits_that_are_not_finite_leave_the_student_its_own_metrics() -> None:
    tensors_given = given()
    tensors_given["teacher_logits"][0, 0] = math.nan
    values, reasons = score(tensors_given)
    assert list(reasons) == needing("teacher_logits")
    assert set(reasons.values()) == {"NaN or infinity in 1 of 12 examples of the teacher's logits"}
    assert values["top1"] == score(given())[0]["top1"]


def test_empty_split() -> None:
    empty = {name: tensor[:0] if tensor.ndim else tensor for name, tensor in given().items()}
    values, reasons = score(empty)
    assert set(values.values()) == {None}
    assert {reasons[name] for name in needing("logits")} <= {
        f"the split is empty: {name} has shape (0, 6)"
        for name in ("logits", "teacher_logits", "validation_logits")
    }
    assert reasons["cka_pooled"] == "the split is empty: features has shape (0, 3)"


def test_empty_train_split_costs_only_what_needs_it() -> None:
    tensors_given = given()
    tensors_given["train_logits"], tensors_given["train_labels"] = (
        torch.zeros(0, CLASSES),
        torch.zeros(0).long(),
    )
    _, reasons = score(tensors_given)
    assert reasons == {
        "generalization_gap": "the split is empty: train_logits has shape (0, 6)",
        **dict.fromkeys(needing("train_labels")[1:], "the split is empty: train_labels has shape (0,)"),
    }


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("labels", torch.zeros(11).long(), r"labels has shape \(11,\), but logits has shape \(12, 6\).*N"),
        ("labels", torch.zeros(12, 1).long(), r"labels has shape \(12, 1\), expected \(N,\)"),
        ("logits", torch.zeros(12), r"logits has shape \(12,\), expected \(N, K\)"),
        ("teacher_logits", torch.zeros(12, 5), r"\(12, 5\), but logits has shape \(12, 6\).*agree in K"),
        ("teacher_logits", torch.zeros(1, 6), r"\(1, 6\), but logits has shape \(12, 6\).*agree in N"),
        ("train_logits", torch.zeros(7, 5), r"\(7, 5\), but logits has shape \(12, 6\).*agree in K"),
        (
            "train_labels",
            torch.zeros(8).long(),
            r"train_labels has shape \(8,\), but train_logits.*agree in M",
        ),
        ("logits", torch.zeros(12, 0), r"logits has shape \(12, 0\): there must be at least one class"),
        ("labels", torch.full((12,), 6), r"labels reach from 6 to 6, expected 0 to 5"),
        ("labels", torch.full((12,), -1), r"labels reach from -1 to -1, expected 0 to 5"),
        ("labels", torch.zeros(12), r"labels has type torch.float32, expected integers"),
        ("logits", torch.zeros(12, 6).long(), r"logits has type torch.int64, expected a floating type"),
        ("teacher_logit", torch.zeros(12, 6), r"'teacher_logit' is not .*Did you mean 'teacher_logits'\?"),
        ("predictions", torch.zeros(12), r"'predictions' is not a tensor that metrics take"),
        ("validation_logits", torch.zeros(9, 5), r"\(9, 5\), but logits has shape \(12, 6\).*agree in K"),
        ("features", torch.zeros(11, 3), r"teacher_features has shape \(12, 4\), but.*agree in R"),
        ("temperature", torch.ones(1), r"temperature has shape \(1,\), expected a scalar"),
        ("temperature", torch.tensor(4), r"temperature has type torch.int64, expected a floating type"),
        ("temperature", torch.tensor(0.0), r"temperature is 0.0, expected a positive number"),
    ],
)
def test_wrong_input_is_an_error_that_names_it(name: str, tensor: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score(given() | {name: tensor})


def test_a_reason_for_a_tensor_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'feature' is not a tensor.*Did you mean 'features'\?"):
        score(given(), {"feature": "none"})


def test_a_temperature_that_is_not_finite_has_no_entropy() -> None:
    _, reasons = score(given() | {"temperature": torch.tensor(math.inf)})
    assert reasons == {"teacher_entropy_norm": "the temperature of the soft targets is not finite"}


def test_a_direct_call_does_not_broadcast() -> None:
    with pytest.raises(ValueError, match=r"labels has shape \(1,\), but predictions has shape \(3,\)"):
        kdbench.metrics.quality.top1(torch.tensor([0, 0, 0]), torch.tensor([0]))
    with pytest.raises(Undefined, match="the split is empty"):
        kdbench.metrics.quality.top1(torch.zeros(0).long(), torch.zeros(0).long())


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_any_floating_type_is_scored_in_float64(kind: torch.dtype) -> None:
    tensors_given = {
        name: tensor.to(kind) if tensor.is_floating_point() else tensor.to(torch.uint8)
        for name, tensor in given().items()
    }
    exact = {
        name: tensor.double() if tensor.is_floating_point() else tensor
        for name, tensor in tensors_given.items()
    }
    assert score(tensors_given) == score(exact)


def test_inputs_are_left_as_they_were_and_carry_no_gradient() -> None:
    tensors_given = given()
    before = {name: tensor.clone() for name, tensor in tensors_given.items()}
    expected = score(tensors_given)
    assert all(torch.equal(tensors_given[name], before[name]) for name in before)
    assert score(tensors_given | {"logits": tensors_given["logits"].requires_grad_()}) == expected


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = score(given())
    monkeypatch.setattr(tensors, "BLOCK_ELEMENTS", 5 * CLASSES)
    assert list(tensors.row_blocks(given()["logits"])) == [
        slice(0, 5),
        slice(5, 10),
        slice(10, 15),
    ]
    in_blocks, reasons = score(given())
    assert reasons == {}
    assert in_blocks == pytest.approx(whole, rel=1e-14)
