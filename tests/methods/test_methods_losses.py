"""Every loss against a value computed by hand, its limits and its invariances."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from scipy.special import rel_entr, softmax

from kdbench.methods import Pair, Refusal, find_method, methods
from kdbench.methods.fitnet import same_size
from kdbench.methods.interpolate import mix
from kdbench.methods.kd import soft_loss
from kdbench.models import FeatureShapes, Outputs, build_model

MAP = FeatureShapes((3,), (4,), ((2, 4, 4), (5, 2, 2)))
WIDE = FeatureShapes((3,), (6,), ((3, 4, 4), (7, 4, 4)))
FLAT = FeatureShapes((3,), (4,), ())


def pair(teacher: FeatureShapes = WIDE, student: FeatureShapes = MAP, same: bool = False) -> Pair:
    return Pair("T", "S", teacher, student, 3, same_architecture=same)


def make(name: str, of: Pair | None = None, **hyper: object):  # type: ignore[no-untyped-def]
    distiller = find_method(name).distiller
    return distiller(distiller.Parameters(**hyper), of or pair())


def total(terms: dict[str, torch.Tensor]) -> float:
    return float(torch.stack(list(terms.values())).sum())


def test_kd_by_hand() -> None:
    z_s, z_t = torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[2.0, 0.0, 0.0]])
    t = 2.0
    p_t, p_s = softmax(z_t.numpy() / t, axis=1), softmax(z_s.numpy() / t, axis=1)
    soft = t**2 * rel_entr(p_t, p_s).sum()
    hard = -math.log(softmax(z_s.numpy(), axis=1)[0, 2])
    terms = make("kd", temperature=t, alpha=0.7, beta=0.3)(Outputs(z_s), Outputs(z_t), torch.tensor([2]), 0.0)
    assert float(terms["kd"]) == pytest.approx(0.7 * soft, rel=1e-5)
    assert float(terms["ce"]) == pytest.approx(0.3 * hard, rel=1e-5)


def test_kd_averages_over_the_batch() -> None:
    z_s, z_t = torch.randn(6, 5), torch.randn(6, 5)
    alone = [float(soft_loss(z_s[i : i + 1], z_t[i : i + 1], 3.0)) for i in range(6)]
    assert float(soft_loss(z_s, z_t, 3.0)) == pytest.approx(sum(alone) / 6, rel=1e-5)


def test_kd_vanishes_for_identical_logits_and_shifted_ones() -> None:
    z = torch.randn(4, 7, dtype=torch.float64)
    assert float(soft_loss(z, z, 4.0)) == pytest.approx(0, abs=1e-12)
    assert float(soft_loss(z + 3.0, z, 4.0)) == pytest.approx(0, abs=1e-12)


def test_kd_becomes_logit_matching_as_temperature_grows() -> None:
    # Hinton et al. 2015: T²·KL tends to the mean over classes of (centred z_s − centred z_t)²/2
    z_s, z_t = torch.randn(3, 8, dtype=torch.float64), torch.randn(3, 8, dtype=torch.float64)
    difference = (z_s - z_s.mean(1, keepdim=True)) - (z_t - z_t.mean(1, keepdim=True))
    limit = float((difference**2).mean(1).mean() / 2)
    assert float(soft_loss(z_s, z_t, 1e4)) == pytest.approx(limit, rel=1e-3)


def test_the_factor_keeps_the_gradient_at_the_scale_of_the_hard_loss() -> None:
    z_t = torch.randn(5, 10, dtype=torch.float64)
    norms = []
    for temperature in (50.0, 100.0):
        z_s = torch.zeros(5, 10, dtype=torch.float64, requires_grad=True)
        soft_loss(z_s, z_t, temperature).backward()
        norms.append(float(z_s.grad.norm()))
    assert norms[0] == pytest.approx(norms[1], rel=0.05)


def test_scratch_and_label_smoothing_by_hand() -> None:
    z, y = torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([1])
    log_p = F.log_softmax(z, 1)[0]
    assert total(make("scratch")(Outputs(z), None, y, 0.0)) == pytest.approx(-float(log_p[1]), rel=1e-6)
    smoothed = -(0.8 * float(log_p[1]) + 0.2 * float(log_p.mean()))
    found = total(make("label_smoothing", epsilon=0.2)(Outputs(z), None, y, 0.0))
    assert found == pytest.approx(smoothed, rel=1e-6)


def test_fitnet_by_hand_on_pooled_features() -> None:
    distiller = make("fitnet", layer="pooled", weight=10.0)
    with torch.no_grad():
        distiller.regressor.weight.zero_()
        distiller.regressor.bias.fill_(1.0)
    student = Outputs(torch.zeros(2, 3), pooled=torch.randn(2, 4))
    teacher = Outputs(torch.zeros(2, 3), pooled=torch.full((2, 6), 3.0))
    terms = distiller(student, teacher, torch.tensor([0, 1]), 0.0)
    assert float(terms["hint"]) == pytest.approx(10 * (1 - 3) ** 2)
    assert float(terms["ce"]) == pytest.approx(math.log(3))


def test_fitnet_pools_the_larger_map_and_trains_its_regressor() -> None:
    distiller = make("fitnet", layer=2)
    student = Outputs(torch.zeros(4, 3), stages=(torch.randn(4, 2, 4, 4), torch.randn(4, 5, 2, 2)))
    teacher = Outputs(torch.zeros(4, 3), stages=(torch.randn(4, 3, 4, 4), torch.randn(4, 7, 4, 4)))
    terms = distiller(student, teacher, torch.zeros(4, dtype=torch.long), 0.0)
    terms["hint"].backward()
    assert all(parameter.grad is not None for parameter in distiller.parameters())
    assert sum(parameter.numel() for parameter in distiller.parameters()) == 5 * 7 + 2 * 7


def test_pooling_to_the_smaller_map_keeps_the_mean() -> None:
    big, small = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 4, 4)
    first, second = same_size(big, small)
    assert first.shape == second.shape == (2, 3, 4, 4)
    torch.testing.assert_close(first.mean((2, 3)), big.mean((2, 3)))
    assert second is small


def test_fitnet_refuses_pairs_without_the_layer() -> None:
    distiller = find_method("fitnet").distiller
    with pytest.raises(Refusal, match="student 'S' has no stages"):
        distiller.check(distiller.Parameters(layer=2), pair(student=FLAT))
    with pytest.raises(Refusal, match="teacher 'T' has 2 stages, so there is no layer 3"):
        distiller.check(distiller.Parameters(layer=3), pair())
    tokens = FeatureShapes((3,), (4,), ((16, 8), (16, 8)))
    with pytest.raises(Refusal, match="tokens"):
        distiller.check(distiller.Parameters(layer=2), pair(student=tokens))
    with pytest.raises(Refusal, match="no pooled feature"):
        distiller.check(distiller.Parameters(layer="pooled"), pair(student=FeatureShapes((3,), None, ())))
    distiller.check(distiller.Parameters(layer="pooled"), pair(student=FLAT))


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_mix_by_hand(share: float) -> None:
    student = build_model("cnn_2", input_shape=(1, 8, 8), num_classes=3)
    teacher = build_model("cnn_2", input_shape=(1, 8, 8), num_classes=3)
    expected = [
        share * t.detach() + (1 - share) * s.detach()
        for t, s in zip(teacher.parameters(), student.parameters(), strict=True)
    ]
    buffers = [buffer.clone() for buffer in student.buffers()]
    mix(student, teacher, share)
    for found, value in zip(student.parameters(), expected, strict=True):
        torch.testing.assert_close(found.detach(), value)
    assert all(torch.equal(a, b) for a, b in zip(student.buffers(), buffers, strict=True))


@pytest.mark.parametrize(
    ("every", "steps"), [("step", [1, 1, 1, 1]), ("epoch", [0, 1, 0, 1]), ("once", [0, 0, 0, 1])]
)
def test_interpolate_acts_when_it_is_due(every: str, steps: list[int]) -> None:
    student = build_model("mlp_4", input_shape=(1, 2, 2), num_classes=3)
    teacher = build_model("mlp_4", input_shape=(1, 2, 2), num_classes=3)
    distiller = make("interpolate", pair(same=True), lam=1.0, every=every)
    distiller.prepare(student, teacher)
    found = []
    for index in range(4):
        with torch.no_grad():
            student.head.weight.zero_()
        distiller.after_step(student, teacher, epoch_ended=index % 2 == 1, ended=index == 3)
        found.append(int(torch.equal(student.head.weight, teacher.head.weight)))
    assert found == steps


def test_the_teacher_that_trains_alongside_starts_elsewhere_and_is_trained() -> None:
    student = build_model("mlp_4", input_shape=(1, 2, 2), num_classes=3)
    distiller = make("interpolate", pair(same=True), teacher="alongside", lam=0.5)
    distiller.prepare(student, student)
    assert not torch.equal(distiller.peer.head.weight, student.head.weight)
    terms = distiller.own_loss(torch.randn(5, 1, 2, 2), torch.zeros(5, dtype=torch.long))
    terms["teacher_ce"].backward()
    assert distiller.peer.head.weight.grad.abs().sum() > 0
    assert list(distiller.parameters()) != []


def test_the_barrier_is_zero_on_a_line_and_positive_over_a_hill() -> None:
    student = build_model("mlp_4", input_shape=(1, 2, 2), num_classes=3)
    teacher = build_model("mlp_4", input_shape=(1, 2, 2), num_classes=3)
    with torch.no_grad():
        student.head.bias.fill_(0.0)
        teacher.head.bias.fill_(1.0)
    distiller = make("interpolate", pair(same=True))
    linear = distiller.diagnose(student, teacher, lambda model: 3 * float(model.head.bias[0]))
    assert linear["interpolation_barrier"] == pytest.approx(0, abs=1e-6)
    hill = distiller.diagnose(
        student, teacher, lambda model: float(model.head.bias[0] * (1 - model.head.bias[0]))
    )
    assert hill["interpolation_barrier"] == pytest.approx(0.25, abs=1e-6)


def test_interpolate_refuses_other_architectures() -> None:
    distiller = find_method("interpolate").distiller
    with pytest.raises(Refusal, match="different names or shapes"):
        distiller.check(distiller.Parameters(), pair())


@pytest.mark.parametrize("name", sorted(methods()))
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_losses_and_gradients_are_finite_at_extreme_logits(name: str, scale: float) -> None:
    same = FeatureShapes((3,), (4,), ((2, 4, 4), (5, 2, 2)))
    distiller = make(name, pair(same, same, same=True))
    z_s = (scale * torch.randn(6, 3)).bfloat16().float().requires_grad_()
    features = {"pooled": torch.randn(6, 4), "stages": (torch.randn(6, 2, 4, 4), torch.randn(6, 5, 2, 2))}
    teacher = Outputs(scale * torch.randn(6, 3), **features)
    terms = distiller(Outputs(z_s, **features), teacher, torch.tensor([0, 1, 2, 0, 1, 2]), 0.5)
    loss = torch.stack(list(terms.values())).sum()
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(z_s.grad).all()


@pytest.mark.parametrize("name", sorted(methods()))
def test_every_method_says_where_it_comes_from(name: str) -> None:
    method = methods()[name]
    assert method.title and method.source and 1980 < method.year < 2100
    method.parameters()  # every hyper-parameter has a default
