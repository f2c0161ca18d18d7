"""The student that ends in its teacher's classifier: what it computes, shares, and costs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from kdbench.efficiency import count
from kdbench.errors import UserError
from kdbench.inputs import InputSpec
from kdbench.models import FeatureReader, build_model, find_taps
from kdbench.models.reuse import ReusedClassifier, build, meeting_size, projector, without

SHAPE = (1, 8, 8)
INPUTS = InputSpec.image(SHAPE)
FACTORY = "kdbench.models.reuse:build"


def model(name: str = "cnn_4", classes: int = 3) -> nn.Module:
    return build_model(name, inputs=INPUTS, num_classes=classes)


def params(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def reused(student: nn.Module, size: tuple[int, int] = (2, 2), stage: str = "stages") -> ReusedClassifier:
    between = projector((16, 2, 2), (8, *size), 2)
    return ReusedClassifier(student, between, nn.Linear(8, 3), size, own_head="head", stage=stage).eval()


def last_stage(student: nn.Module, x: Tensor) -> Tensor:
    reader = FeatureReader(student, find_taps(student, INPUTS), frozenset({"stages"}))
    stage = reader(x).stages[-1]
    reader.close()
    return stage


def test_it_classifies_the_mean_of_the_projected_last_stage() -> None:
    torch.manual_seed(0)
    student = model().eval()
    whole = reused(student)
    x = torch.randn(4, *SHAPE)
    mapped = whole.projector(last_stage(student, x)).tolist()
    weight, bias = whole.head.weight.tolist(), whole.head.bias.tolist()
    means = [[sum(map(sum, channel)) / 4 for channel in image] for image in mapped]
    expected = [
        [sum(m * w for m, w in zip(image, row, strict=True)) + b for row, b in zip(weight, bias, strict=True)]
        for image in means
    ]
    torch.testing.assert_close(whole(x), torch.tensor(expected))


def test_a_larger_stage_is_pooled_before_it_is_projected() -> None:
    student = model().eval()
    whole = reused(student, size=(1, 1))
    x = torch.randn(4, *SHAPE)
    pooled = last_stage(student, x).mean((2, 3), keepdim=True)
    torch.testing.assert_close(whole(x), whole.head(whole.projector(pooled)[:, :, 0, 0]))


def test_the_last_stage_may_be_named() -> None:
    student = model().eval()
    whole = ReusedClassifier(
        student, nn.Identity(), nn.Linear(8, 3), (4, 4), own_head="head", stage="stages.1.5"
    ).eval()
    x = torch.randn(4, *SHAPE)
    inner = student.stages[1][:6](student.stages[0](x))
    torch.testing.assert_close(whole(x), whole.head(inner.mean((2, 3))))


def test_the_student_keeps_its_head_and_shares_its_weights() -> None:
    student = model().eval()
    whole = reused(student)
    x = torch.randn(2, *SHAPE)
    logits, before = student(x), whole(x)
    assert isinstance(student.head, nn.Linear) and isinstance(whole.student.head, nn.Identity)
    mine = {name: p for name, p in student.named_parameters() if not name.startswith("head")}
    assert {name: id(p) for name, p in whole.student.named_parameters()} == {
        n: id(p) for n, p in mine.items()
    }
    with torch.no_grad():
        student.head.weight.zero_()
    assert torch.equal(whole(x), before)
    with torch.no_grad():
        student.stages[0][0].weight.mul_(-1)
    assert not torch.allclose(whole(x), before)
    assert not torch.equal(student(x), logits)


def test_no_hook_stays_even_where_the_student_fails() -> None:
    student = model().eval()
    whole = reused(student, stage="stages.2")
    whole(torch.randn(2, *SHAPE))
    with pytest.raises(RuntimeError):
        whole(torch.randn(2, 5, 8, 8))
    assert not any(module._forward_hooks for module in student.modules())


def test_a_layer_deep_inside_is_left_out_of_the_copy_only() -> None:
    inner = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.Linear(5, 2))
    network = nn.Sequential(nn.Sequential(nn.Identity(), inner), nn.Identity())
    shell = without(network, "0.1.2")
    x = torch.randn(3, 1, 2, 2)
    assert network(x).shape == (3, 2) and shell(x).shape == (3, 5)
    torch.testing.assert_close(inner[2](shell(x)), network(x))
    assert shell[0][1][1] is inner[1]


def test_the_projector_is_a_bottleneck_of_three_convolutions() -> None:
    layers = projector((16, 2, 2), (64, 2, 2), factor=2)
    shapes = [tuple(layer.weight.shape) for layer in layers if isinstance(layer, nn.Conv2d)]
    assert shapes == [(32, 16, 1, 1), (32, 32, 3, 3), (64, 32, 1, 1)]
    assert [type(layer).__name__ for layer in layers] == ["Conv2d", "BatchNorm2d", "ReLU"] * 3
    assert layers(torch.randn(2, 16, 5, 5)).shape == (2, 64, 5, 5)
    assert projector((16, 2, 2), (3, 2, 2), factor=8)[0].out_channels == 1


def test_tokens_are_projected_without_a_last_relu() -> None:
    torch.manual_seed(0)
    layers = projector((4, 8), (16, 6), factor=2)
    assert isinstance(layers[-1], nn.BatchNorm2d)
    assert float(layers(torch.randn(3, 8, 2, 2)).detach().min()) < 0
    assert meeting_size((4, 8), (16, 6)) == (2, 2)
    assert meeting_size((5, 7, 3), (5, 4, 6)) == (4, 3)


def test_the_factory_has_the_parameters_of_its_parts() -> None:
    # cnn_4 ends in 16 channels, resnet8 in 64; the projector has 32 between
    whole = build("cnn_4", "resnet8", 2, inputs=INPUTS, num_classes=3)
    between = 16 * 32 + 2 * 32 + 9 * 32 * 32 + 2 * 32 + 32 * 64 + 2 * 64
    assert params(whole) == params(model()) - (16 * 3 + 3) + between + (64 * 3 + 3)
    assert whole.eval()(torch.zeros(2, *SHAPE)).shape == (2, 3)


def test_the_factory_is_counted_without_the_students_head() -> None:
    # both last stages are 2×2, so every weight of the projector's convolutions is used at 4 places
    args = {"student": "cnn_4", "teacher": "resnet8", "factor": 2}
    whole = build_model(FACTORY, inputs=INPUTS, num_classes=3, args=args)
    student = count(model(), INPUTS).macs
    found = count(whole, INPUTS)
    assert student is not None
    assert found.macs == student - 16 * 3 + 4 * (16 * 32 + 9 * 32 * 32 + 32 * 64) + 64 * 3
    assert found.macs_torch == found.macs and not found.uncounted


def test_the_factory_passes_arguments_on_and_takes_named_stages() -> None:
    whole = build(
        "cnn_4",
        "cnn_2",
        1,
        inputs=INPUTS,
        num_classes=3,
        student_args={"dropout": 0.25},
        student_stage="stages.1.5",
        teacher_stage="stages.2.4",
    )
    assert whole.student.dropout.p == 0.25
    assert whole.projector[0].in_channels == 8 and whole.head.in_features == 8
    assert whole.size == (2, 2)
    assert whole(torch.zeros(2, *SHAPE)).shape == (2, 3)
    whole = build("cnn_4", "vit_8_2", 1, inputs=INPUTS, num_classes=3, teacher_args={"patch": 8})
    assert whole.size == (1, 1)


@pytest.mark.parametrize(("student", "teacher"), [("vit_8_2", "cnn_2"), ("cnn_2", "vit_8_2")])
def test_transformers_take_part(student: str, teacher: str) -> None:
    whole = build(student, teacher, 2, inputs=INPUTS, num_classes=3)
    assert whole(torch.randn(2, *SHAPE)).shape == (2, 3)


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        ("mlp_4", "cnn_2", "'mlp_4' has no stages"),
        ("cnn_2", "gru_4", "'gru_4' has no stages"),
        ("cnn_2", "resnet8", "'resnet8' does not classify the channels of its last stage"),
    ],
)
def test_models_that_do_not_fit_are_named(student: str, teacher: str, message: str) -> None:
    stage = "stages.0" if teacher == "resnet8" else None
    with pytest.raises(UserError, match=message):
        build(student, teacher, 2, inputs=INPUTS, num_classes=3, teacher_stage=stage)
