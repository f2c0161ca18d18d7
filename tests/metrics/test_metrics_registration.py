"""What an author of metrics relies on: registration, shared tensors, new inputs, errors that say where."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kdbench.errors import UserError
from kdbench.metrics import METRICS, Undefined, catalogue, metric, score, tensors
from kdbench.runner.scores import best_columns
from kdbench.targets import find_target
from tests.metrics.given import given
from tests.registries import reopen


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics and tensors that a test registers are forgotten at its end."""
    reopen(METRICS, monkeypatch)
    monkeypatch.setattr(tensors, "KNOWN", dict(tensors.KNOWN))


def register(name: str, function: object) -> None:
    metric(name, title=name, family="task", direction="none", range="[0, 1]", source="test")(function)


def test_everything_given_leaves_nothing_without_a_value() -> None:
    values, reasons = score(given())
    assert reasons == {}
    assert all(isinstance(value, float) and math.isfinite(value) for value in values.values())


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
    assert "shift" not in score(given())[0], "no target has what it needs"
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
    with pytest.raises(UserError, match=r"metric 'typo' .* 'logit'\. Did you mean 'logits'\?"):
        register("typo", lambda logit: 0.0)
    with pytest.raises(UserError, match=r"two metrics are called 'top1': quality\.py:\d+ and test_"):
        register("top1", lambda logits: 0.0)
    with pytest.raises(ValueError, match="a tensor named 'labels' is declared already"):
        tensors.declare("labels", "N", "class", "the labels again")
    with pytest.raises(
        ValueError, match=r"'x' asks for an unknown tensor 'lables'\. Did you mean 'labels'\?"
    ):
        tensors.derive("x", "N", abs, ("lables",))
    assert "typo" not in catalogue()


@pytest.mark.usefixtures("sandbox")
def test_a_new_metric_is_scored_and_listed() -> None:
    before = list(catalogue())

    @metric("mean_label", title="Mean label", family="zoo", direction="none", range="[0, ∞)", source="test")
    def mean_label(labels: Tensor) -> float:
        return labels.double().mean().item()

    values, _ = score({"labels": torch.tensor([1, 2, 6])})
    assert list(values)[-1] == "mean_label", "a family that is not known comes last"
    assert values["mean_label"] == 3.0
    assert catalogue()["mean_label"].family == "zoo"
    assert mean_label(torch.tensor([4])) == 4.0
    assert list(catalogue()) == [*before, "mean_label"]


def test_a_metric_that_is_not_known_is_refused_with_the_nearest_right_name() -> None:
    with pytest.raises(UserError, match=r"unknown metric 'accuracy'\. Did you mean 'top1'\?"):
        score(given(), only=["accuracy"])
    with pytest.raises(UserError, match=r"unknown metric 'brer'\. Did you mean 'brier'\?"):
        score(given(), only=["top1", "brer"])


OWN = """
from torch import Tensor

from kdbench.metrics import metric
from kdbench.metrics.quality import share


@metric("first_class", title="First class", family="zoo", direction="none", range="[0, 1]", source="user")
def first_class(predictions: Tensor) -> float:
    return share(predictions == 0)


@metric("brier", title="Another", family="zoo", direction="none", range="[0, 1]", source="user")
def another(predictions: Tensor) -> float:
    return 0.0


@metric("labelled", title="Labelled", family="zoo", direction="none", range="[0, 1]", source="user")
def labelled(label_sets: Tensor) -> float:
    return float(label_sets.double().mean())


def bare(predictions: Tensor) -> float:
    return 0.0
"""


@pytest.fixture
def own_file(tmp_path: Path) -> Path:
    file = tmp_path / "mine.py"
    file.write_text(OWN)
    return file


def test_a_users_metric_is_named_by_its_file_and_known_there_alone(own_file: Path) -> None:
    name = f"{own_file}:first_class"
    before = list(catalogue())
    values, reasons = score(given(), own=[name])
    assert values["first_class"] == (given()["logits"].argmax(1) == 0).double().mean() and not reasons
    target = find_target("single_label")
    assert list(catalogue(target, own=[name])) == [*catalogue(target), "first_class"]
    assert [column.name for column in best_columns(target, [name])][-1] == "first_class_best_val"
    assert list(catalogue()) == before and "first_class" not in score(given())[0]


@pytest.mark.parametrize(
    ("function", "text"),
    [
        ("another", r"metric 'brier' of mine\.py:\d+ has the name of one at quality\.py:\d+: rename it"),
        ("labelled", r"metric '.*mine\.py:labelled' needs label_sets, which single_label data does not have"),
        ("bare", r"'.*mine\.py:bare' is no metric: mine\.py:\d+ is not registered as one by a decorator"),
        ("frist_class", r"no 'frist_class' in .*Did you mean 'first_class'\?"),
    ],
)
def test_a_users_metric_that_cannot_be_one_is_refused_with_its_place(
    own_file: Path, function: str, text: str
) -> None:
    with pytest.raises(UserError, match=text):
        catalogue(find_target("single_label"), own=[f"{own_file}:{function}"])


def test_a_metric_of_another_target_is_the_targets_own(own_file: Path) -> None:
    sets = torch.tensor([[1, 0], [1, 1]])
    target = find_target("multi_label")
    values, _ = score({"label_sets": sets}, target=target, own=[f"{own_file}:labelled"])
    assert values["labelled"] == 0.75
