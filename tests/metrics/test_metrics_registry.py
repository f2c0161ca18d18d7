"""What `score` promises: lazy shared tensors, None with a reason, errors that name the shapes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import kdbench.metrics
from kdbench.metrics import Undefined, catalogue, metric, registry, score, tensors

COUNT, CLASSES = 12, 6
FIDELITY = [name for name, column in catalogue().items() if column.family == "fidelity"]


def given() -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(CLASSES, (COUNT,), generator=random)
    signal = torch.nn.functional.one_hot(labels, CLASSES)
    return {
        "logits": torch.randn(COUNT, CLASSES, generator=random) + signal,
        "labels": labels,
        "teacher_logits": torch.randn(COUNT, CLASSES, generator=random) + 2 * signal,
        "train_logits": torch.randn(7, CLASSES, generator=random),
        "train_labels": torch.randint(CLASSES, (7,), generator=random),
    }


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics and tensors that a test registers are forgotten at its end."""
    monkeypatch.setattr(registry, "_METRICS", dict(registry._METRICS))
    monkeypatch.setattr(tensors, "KNOWN", dict(tensors.KNOWN))


def register(name: str, function: object) -> None:
    metric(name, title=name, family="task", direction="none", range="[0, 1]", source="test")(function)


def test_everything_given_leaves_nothing_without_a_value() -> None:
    values, reasons = score(given())
    assert reasons == {}
    assert all(isinstance(value, float) and math.isfinite(value) for value in values.values())


@pytest.mark.parametrize(
    ("absent", "reason", "affected"),
    [
        ("teacher_logits", "needs the teacher's logits", FIDELITY),
        ("train_logits", "needs the logits of the train split", ["generalization_gap"]),
        ("train_labels", "needs the labels of the train split", ["generalization_gap"]),
        ("logits", "needs the student's logits", list(catalogue())),
    ],
)
def test_absent_tensor(absent: str, reason: str, affected: list[str]) -> None:
    full = given()
    values, reasons = score({name: tensor for name, tensor in full.items() if name != absent})
    assert reasons == dict.fromkeys(affected, reason)
    assert [name for name, value in values.items() if value is None] == affected


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
    assert set(values.values()) == {None}
    assert set(reasons.values()) == {"NaN or infinity in 2 of 12 examples of the student's logits"}
    assert list(reasons) == list(catalogue())


def test_teacher_logits_that_are_not_finite_leave_the_student_its_own_metrics() -> None:
    tensors_given = given()
    tensors_given["teacher_logits"][0, 0] = math.nan
    values, reasons = score(tensors_given)
    assert list(reasons) == FIDELITY
    assert set(reasons.values()) == {"NaN or infinity in 1 of 12 examples of the teacher's logits"}
    assert values["top1"] == score(given())[0]["top1"]


def test_empty_split() -> None:
    empty = {name: tensor[:0] for name, tensor in given().items()}
    values, reasons = score(empty)
    assert set(values.values()) == {None}
    assert set(reasons.values()) == {"the split is empty: logits has shape (0, 6)"}


def test_empty_train_split_costs_only_what_needs_it() -> None:
    tensors_given = given()
    tensors_given["train_logits"], tensors_given["train_labels"] = (
        torch.zeros(0, CLASSES),
        torch.zeros(0).long(),
    )
    _, reasons = score(tensors_given)
    assert reasons == {"generalization_gap": "the split is empty: train_logits has shape (0, 6)"}


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
    ],
)
def test_wrong_input_is_an_error_that_names_it(name: str, tensor: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score(given() | {name: tensor})


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


@pytest.mark.usefixtures("sandbox")
def test_what_metrics_share_is_derived_once_and_only_if_asked_for() -> None:
    calls: list[str] = []

    def counted(name: str) -> None:
        def function(logits: Tensor) -> Tensor:
            calls.append(name)
            return logits.double().exp()

        tensors.derive(name, "NK", function, ("logits",))

    counted("exp_logits")
    counted("never_asked_for")

    def low(exp_logits: Tensor) -> float:
        return exp_logits.min().item()

    def high(exp_logits: Tensor) -> float:
        return exp_logits.max().item()

    register("low", low)
    register("high", high)
    values, _ = score(given())
    assert values["low"] < values["high"]
    assert calls == ["exp_logits"]
    score(given())
    assert calls == ["exp_logits"] * 2


@pytest.mark.usefixtures("sandbox")
def test_a_derived_tensor_that_is_undefined_passes_its_reason_on() -> None:
    calls: list[str] = []

    def undefined(logits: Tensor) -> Tensor:
        calls.append("root")
        raise Undefined("no root below zero")

    tensors.derive("root", "N", undefined, ("logits",))
    register("first", lambda root: 1.0)
    register("second", lambda root: 2.0)
    values, reasons = score(given())
    assert values["first"] is None
    assert reasons == {"first": "no root below zero", "second": "no root below zero"}
    assert calls == ["root"], "a failure is remembered as a result is"


@pytest.mark.usefixtures("sandbox")
def test_a_new_input_is_one_declaration() -> None:
    tensors.declare("noisy_logits", "NK", "real", "the logits on noisy images")
    register("shift", lambda logits, noisy_logits: (noisy_logits - logits).abs().max().item())
    assert score(given())[1] == {"shift": "needs the logits on noisy images"}
    assert score(given() | {"noisy_logits": given()["logits"] + 1})[0]["shift"] == pytest.approx(1)
    with pytest.raises(ValueError, match=r"noisy_logits has shape \(12, 5\)"):
        score(given() | {"noisy_logits": torch.zeros(12, 5)})


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize(("value", "named"), [(math.nan, "NaN"), (math.inf, "inf"), (-math.inf, "-inf")])
def test_a_value_that_is_not_finite_is_none_and_the_reason_says_which(value: float, named: str) -> None:
    register("broken", lambda logits: value)
    values, reasons = score(given())
    assert values["broken"] is None
    assert reasons == {"broken": f"the value is not finite: {named}"}


@pytest.mark.usefixtures("sandbox")
def test_any_other_exception_propagates_and_names_the_metric() -> None:
    def faulty(logits: Tensor) -> float:
        raise ZeroDivisionError("by design")

    register("faulty", faulty)
    with pytest.raises(ZeroDivisionError, match="by design") as caught:
        score(given())
    assert caught.value.__notes__ == ["while computing the metric 'faulty'"]


@pytest.mark.usefixtures("sandbox")
def test_a_parameter_with_a_default_is_a_setting() -> None:
    register("setting", lambda logits, scale=3.0: scale)
    assert score(given())[0]["setting"] == 3.0


@pytest.mark.usefixtures("sandbox")
def test_registration_refuses_what_cannot_work() -> None:
    with pytest.raises(ValueError, match=r"the metric 'typo' .* 'logit'\. Did you mean 'logits'\?"):
        register("typo", lambda logit: 0.0)
    with pytest.raises(ValueError, match="a metric named 'top1' is registered already"):
        register("top1", lambda logits: 0.0)
    with pytest.raises(ValueError, match="a tensor named 'labels' is declared already"):
        tensors.declare("labels", "N", "class", "the labels again")
    with pytest.raises(
        ValueError, match=r"'x' asks for an unknown tensor 'lables'\. Did you mean 'labels'\?"
    ):
        tensors.derive("x", "N", abs, ("lables",))
    assert "typo" not in catalogue()


def test_register_score_unregister() -> None:
    before = list(catalogue())

    @metric("mean_label", title="Mean label", family="zoo", direction="none", range="[0, ∞)", source="test")
    def mean_label(labels: Tensor) -> float:
        return labels.double().mean().item()

    try:
        values, _ = score({"labels": torch.tensor([1, 2, 6])})
        assert list(values)[-1] == "mean_label", "a family that is not known comes last"
        assert values["mean_label"] == 3.0
        assert catalogue()["mean_label"].family == "zoo"
        assert mean_label(torch.tensor([4])) == 4.0
    finally:
        registry.unregister("mean_label")
    assert list(catalogue()) == before
    with pytest.raises(KeyError):
        registry.unregister("mean_label")
