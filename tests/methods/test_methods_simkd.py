"""The reused classifier: what is learned, kept and measured."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from kdbench.inputs import InputSpec
from kdbench.methods import Refusal, find_method
from kdbench.models import FeatureReader, build_model
from kdbench.suite.schema import ModelEntry, TapsEntry
from tests.methods.given import (
    FINAL,
    MAP,
    NO_POOLED,
    WIDE,
    check,
    losses,
    make,
    mean_squared,
    outputs,
    pair,
    parameters,
    pooled_by_hand,
    prepared,
    real_pair,
)


def test_simkd_is_the_mean_squared_error_of_the_projected_last_stage() -> None:
    distiller = make("simkd", weight=3.0)
    student, teacher = outputs(MAP), outputs(WIDE, seed=1)
    target = pooled_by_hand(teacher.stages[1].numpy(), 2)  # 4×4 against the student's 2×2
    distiller.projector.eval()
    projected = distiller.projector(student.stages[1]).detach().numpy()
    found = losses(distiller, student, teacher, [0, 1, 2] * 2)
    assert set(found) == {"feature"}
    assert float(found["feature"].detach()) == pytest.approx(3 * mean_squared(projected, target), rel=1e-4)


def test_simkd_pools_a_larger_stage_of_the_student() -> None:
    distiller = make("simkd", pair(teacher=MAP, student=WIDE))
    distiller.projector.eval()
    student, teacher = outputs(WIDE), outputs(MAP, seed=1)
    pooled = torch.from_numpy(pooled_by_hand(student.stages[1].numpy(), 2)).float()
    expected = mean_squared(distiller.projector(pooled).detach().numpy(), teacher.stages[1].numpy())
    found = losses(distiller, student, teacher, [0, 1, 2] * 2)["feature"].detach()
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_simkd_looks_at_no_logits() -> None:
    distiller = make("simkd")
    student, teacher = outputs(MAP), outputs(WIDE, seed=1)
    expected = losses(distiller, student, teacher, [0, 1, 2] * 2)["feature"]
    student.logits = torch.full_like(student.logits, math.nan)
    assert torch.equal(losses(distiller, student, teacher, [2, 1, 0] * 2)["feature"], expected)


def test_the_kept_model_is_the_teachers_head_on_the_projected_pooled_map() -> None:
    of, given, taps = real_pair()
    distiller = prepared("simkd", of, given)
    kept = distiller.inference_model(given.student).eval()
    given.student.eval()
    x = torch.randn(5, 1, 8, 8)
    stage = FeatureReader(given.student, taps["student"], frozenset({"stages"}))(x).stages[-1]
    pooled = distiller.projector(stage).mean((2, 3))
    torch.testing.assert_close(kept(x), given.teacher.head(pooled))


def test_a_perfect_projection_gives_the_teachers_own_logits() -> None:
    of, given, _ = real_pair("cnn_4", "cnn_4")
    given.student.load_state_dict(given.teacher.state_dict())
    distiller = prepared("simkd", of, given)
    distiller.projector = nn.Identity()
    given.student.eval()
    kept = distiller.inference_model(given.student).eval()
    x = torch.randn(5, 1, 8, 8)
    torch.testing.assert_close(kept(x), given.teacher.eval()(x))


def test_the_kept_model_follows_the_training_of_its_parts() -> None:
    torch.manual_seed(0)
    of, given, taps = real_pair()
    distiller = prepared("simkd", of, given)
    kept = distiller.inference_model(given.student)
    reader = {
        role: FeatureReader(model, taps[role], frozenset({"stages"}))
        for role, model in (("student", given.student), ("teacher", given.teacher))
    }
    x = torch.randn(12, 1, 8, 8)
    before = kept.eval()(x).detach()
    head = given.teacher.head.weight.clone()
    given.teacher.eval()
    losses(distiller, reader["student"](x), reader["teacher"](x), [0, 1, 2] * 4)["feature"].backward()
    assert given.student.head.weight.grad is None
    trunk = given.student.stages.parameters()
    assert all(parameter.grad.abs().sum() > 0 for parameter in [*trunk, *parameters(distiller)])
    for changed in (given.student.stages, distiller.projector):
        with torch.no_grad():
            for parameter in changed.parameters():
                parameter -= 0.01 * parameter.grad
        after = kept(x).detach()
        assert not torch.equal(after, before)
        before = after
    assert torch.equal(given.teacher.head.weight, head)


@pytest.mark.parametrize(
    ("student", "teacher", "factor"),
    [("cnn_4", "cnn_2", 2), ("resnet8", "vit_8_2", 1), ("vit_8_2", "cnn_4", 4)],
)
def test_the_model_that_is_measured_has_the_parameters_of_the_one_that_is_kept(
    student: str, teacher: str, factor: int
) -> None:
    of, given, _ = real_pair(student, teacher)
    distiller = prepared("simkd", of, given, factor=factor)
    name, args = distiller.deployed(distiller.hyper, ModelEntry(name=student), ModelEntry(name=teacher))
    measured = build_model(name, inputs=InputSpec.image((1, 8, 8)), num_classes=3, args=args)
    kept = distiller.inference_model(given.student)
    shapes = [
        {key: tuple(value.shape) for key, value in network.state_dict().items()}
        for network in (measured, kept)
    ]
    assert shapes[0] == shapes[1]
    counts = [sum(parameter.numel() for parameter in network.parameters()) for network in (measured, kept)]
    assert counts[0] == counts[1]


def test_the_model_that_is_measured_gets_the_arguments_and_stages_of_the_suite() -> None:
    distiller = find_method("simkd").distiller
    student = ModelEntry(name="cnn_4", args={"dropout": 0.1}, label="mine")
    teacher = ModelEntry(name="cnn_2", taps=TapsEntry(stages=("stages.0", "stages.2")))
    assert distiller.deployed(distiller.Parameters(factor=4), student, teacher) == (
        "kdbench.models.reuse:build",
        {
            "student": "cnn_4",
            "teacher": "cnn_2",
            "factor": 4,
            "student_args": {"dropout": 0.1},
            "teacher_stage": "stages.2",
        },
    )


def test_simkd_trains_its_projector_and_not_the_teachers_head() -> None:
    distiller = prepared("simkd")
    assert set(distiller.adapters()) == {"projector"}
    assert distiller.Parameters().ce == 0


def test_simkd_refuses_a_teacher_whose_classifier_does_not_fit() -> None:
    with pytest.raises(Refusal, match="teacher 'T' does not classify the channels of its last stage"):
        check("simkd", pair(teacher=FINAL))
    check("simkd", pair(student=FINAL))
    check("simkd", pair(student=NO_POOLED))
