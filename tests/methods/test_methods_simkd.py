"""The reused classifier: what is learned, and the network that trains in the student's place."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from kdbench.inputs import InputSpec
from kdbench.methods import Networks, Pair, Refusal, find_method
from kdbench.models import FeatureReader, build_model, feature_shapes
from kdbench.suite.schema import ModelEntry, TapsEntry
from tests.methods.given import (
    FINAL,
    MAP,
    NO_POOLED,
    WIDE,
    as_seen,
    check,
    losses,
    make,
    mean_squared,
    network_that_trains,
    outputs,
    pair,
    pooled_by_hand,
    prepared,
    real_pair,
)

SHAPE = (1, 8, 8)


def reusing(student: str = "cnn_4", teacher: str = "cnn_2") -> tuple[Any, Networks, dict[str, Any]]:
    """Return a distiller that is ready to train, its networks and their taps."""
    of, given, taps = real_pair(student, teacher)
    hyper = find_method("simkd").parameters()
    network, own = network_that_trains("simkd", hyper, student, teacher, SHAPE, 3)
    seen = replace(of, student_shapes=feature_shapes(network, own, InputSpec.image(SHAPE)))
    heads = {"student": network.get_submodule(own.pooled), "teacher": given.heads["teacher"]}
    networks = replace(given, student=network, heads=heads)
    return prepared("simkd", seen, networks), networks, taps | {"student": own}


def shown(of: Pair | None = None, **hyper: object) -> tuple[Any, Any, Any]:
    """Return a distiller, and what its student and its teacher show it."""
    of = as_seen("simkd", of or pair())
    return make("simkd", of, **hyper), outputs(of.student_shapes), outputs(of.teacher_shapes, seed=1)


def test_simkd_is_the_mean_squared_error_of_the_projected_last_stage() -> None:
    distiller, student, teacher = shown(weight=3.0)
    target = pooled_by_hand(teacher.stages[1].numpy(), 2)  # 4×4 against the student's 2×2
    terms = losses(distiller, student, teacher, [0, 1, 2] * 2)
    assert set(terms) == {"feature"}
    expected = 3 * mean_squared(student.stages[-1].numpy(), target)
    assert float(terms["feature"].detach()) == pytest.approx(expected, rel=1e-4)


def test_simkd_looks_at_no_logits() -> None:
    distiller, student, teacher = shown()
    expected = losses(distiller, student, teacher, [0, 1, 2] * 2)["feature"]
    student.logits = torch.full_like(student.logits, math.nan)
    assert torch.equal(losses(distiller, student, teacher, [2, 1, 0] * 2)["feature"], expected)


def test_the_network_is_the_teachers_head_on_the_projected_pooled_map() -> None:
    _, networks, _ = reusing()
    network = networks.student.eval()
    x = torch.randn(5, *SHAPE)
    alone = build_model("cnn_4", inputs=InputSpec.image(SHAPE), num_classes=3)
    trunk = network.student.state_dict()
    alone.load_state_dict(alone.state_dict() | trunk)
    stage = alone.eval().stages(x)
    pooled = network.projector(stage).mean((2, 3))
    torch.testing.assert_close(network(x), networks.teacher.head(pooled))


def test_a_perfect_projection_gives_the_teachers_own_logits() -> None:
    _, networks, _ = reusing("cnn_4", "cnn_4")
    network = networks.student
    network.student.load_state_dict(networks.teacher.state_dict(), strict=False)
    network.projector = nn.Identity()
    x = torch.randn(5, *SHAPE)
    torch.testing.assert_close(network.eval()(x), networks.teacher.eval()(x))


def test_trunk_and_projector_train_and_the_teachers_head_does_not() -> None:
    distiller, networks, taps = reusing()
    network, teacher = networks.student, networks.teacher.eval()
    reader = {
        role: FeatureReader(model, taps[role], frozenset({"stages", "logits"}))
        for role, model in (("student", network), ("teacher", teacher))
    }
    x = torch.randn(12, *SHAPE)
    head = teacher.head.weight.clone()
    losses(distiller, reader["student"](x), reader["teacher"](x), [0, 1, 2] * 4)["feature"].backward()
    trained = [*network.student.stages.parameters(), *network.projector.parameters()]
    assert all(parameter.requires_grad and parameter.grad.abs().sum() > 0 for parameter in trained)
    assert not any(parameter.requires_grad for parameter in network.head.parameters())
    assert len(distiller.adapters()) == 0, "the projector is kept: it is no part of training only"
    before = network.eval()(x).detach()
    with torch.no_grad():
        for parameter in trained:
            parameter -= 0.01 * parameter.grad
    assert not torch.equal(network(x), before)
    assert torch.equal(teacher.head.weight, head) and torch.equal(network.head.weight, head)


@pytest.mark.parametrize(
    ("student", "teacher", "factor"),
    [("cnn_4", "cnn_2", 2), ("resnet8", "vit_8_2", 1), ("vit_8_2", "cnn_4", 4)],
)
def test_the_student_begins_in_it_with_the_weights_that_it_has_alone(
    student: str, teacher: str, factor: int
) -> None:
    hyper = find_method("simkd").parameters(factor=factor)
    torch.manual_seed(3)
    network, _ = network_that_trains("simkd", hyper, student, teacher, SHAPE, 3)
    torch.manual_seed(3)
    alone = build_model(student, inputs=InputSpec.image(SHAPE), num_classes=3).state_dict()
    trunk = network.student.state_dict()
    assert trunk and all(torch.equal(value, alone[name]) for name, value in trunk.items())
    assert alone.keys() - trunk.keys() == {"head.weight", "head.bias"}


def test_the_network_gets_the_arguments_and_stages_of_the_suite() -> None:
    distiller = find_method("simkd").distiller
    student = ModelEntry(name="cnn_4", args={"dropout": 0.1}, label="mine")
    teacher = ModelEntry(name="cnn_2", taps=TapsEntry(stages=("stages.0", "stages.2")))
    assert distiller.network(distiller.Parameters(factor=4), student, teacher) == {
        "name": "kdbench.models.reuse:build",
        "args": {
            "student": "cnn_4",
            "teacher": "cnn_2",
            "factor": 4,
            "student_args": {"dropout": 0.1},
            "teacher_stage": "stages.2",
        },
        "taps": {"stages": ("projector",), "pooled": "head"},
    }


def test_simkd_has_no_cross_entropy_unless_it_is_asked_for() -> None:
    assert find_method("simkd").parameters().ce == 0


def test_simkd_refuses_a_teacher_whose_classifier_does_not_fit() -> None:
    with pytest.raises(Refusal, match="teacher 'T' does not classify the channels of its last stage"):
        check("simkd", pair(teacher=FINAL))
    check("simkd", pair(student=FINAL))
    check("simkd", pair(teacher=WIDE, student=NO_POOLED))
    check("simkd", pair(teacher=WIDE, student=MAP))
