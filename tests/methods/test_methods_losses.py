"""Every loss against a value computed by hand, its limits and its invariances."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from scipy.special import rel_entr, softmax

from kdbench.inputs import InputSpec
from kdbench.methods import Batch, FeatureShapes, Outputs, Refusal, find_method, methods
from kdbench.methods.alignment import same_size
from kdbench.methods.distillers.interpolate import mix
from kdbench.methods.distillers.kd import soft_loss
from kdbench.models import build_model
from tests.methods.given import FLAT, MAP, WIDE, losses, make, networks, outputs, pair, total

TINY = InputSpec.image((1, 2, 2))


def test_kd_by_hand() -> None:
    z_s, z_t = torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[2.0, 0.0, 0.0]])
    t = 2.0
    p_t, p_s = softmax(z_t.numpy() / t, axis=1), softmax(z_s.numpy() / t, axis=1)
    soft = t**2 * rel_entr(p_t, p_s).sum()
    hard = -math.log(softmax(z_s.numpy(), axis=1)[0, 2])
    terms = losses(make("kd", temperature=t, alpha=0.7, beta=0.3), Outputs(z_s), Outputs(z_t), [2])
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
    assert total(losses(make("scratch"), Outputs(z), None, y)) == pytest.approx(-float(log_p[1]), rel=1e-6)
    smoothed = -(0.8 * float(log_p[1]) + 0.2 * float(log_p.mean()))
    found = total(losses(make("label_smoothing", epsilon=0.2), Outputs(z), None, y))
    assert found == pytest.approx(smoothed, rel=1e-6)


def test_fitnet_by_hand_on_pooled_features() -> None:
    distiller = make("fitnet", layer="pooled", weight=10.0)
    with torch.no_grad():
        distiller.regressor.weight.zero_()
        distiller.regressor.bias.fill_(1.0)
    student = Outputs(torch.zeros(2, 3), pooled=torch.randn(2, 5))
    teacher = Outputs(torch.zeros(2, 3), pooled=torch.full((2, 7), 3.0))
    terms = losses(distiller, student, teacher, [0, 1])
    assert terms["hint"].item() == pytest.approx(10 * (1 - 3) ** 2)
    assert terms["ce"].item() == pytest.approx(math.log(3))


def test_fitnet_pools_the_larger_map_and_trains_its_regressor() -> None:
    distiller = make("fitnet", layer=2)
    student = Outputs(torch.zeros(4, 3), stages=(torch.randn(4, 2, 4, 4), torch.randn(4, 5, 2, 2)))
    teacher = Outputs(torch.zeros(4, 3), stages=(torch.randn(4, 3, 4, 4), torch.randn(4, 7, 4, 4)))
    terms = losses(distiller, student, teacher, [0, 0, 0, 0])
    terms["hint"].backward()
    assert all(parameter.grad is not None for parameter in distiller.adapters().parameters())
    assert sum(parameter.numel() for parameter in distiller.adapters().parameters()) == 5 * 7 + 2 * 7


def test_pooling_to_the_smaller_map_keeps_the_mean() -> None:
    big, small = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 4, 4)
    first, second = same_size(big, small)
    assert first.shape == second.shape == (2, 3, 4, 4)
    torch.testing.assert_close(first.mean((2, 3)), big.mean((2, 3)))
    assert second is small


def test_fitnet_refuses_pairs_without_the_layer() -> None:
    distiller = find_method("fitnet").distiller
    with pytest.raises(Refusal, match="student 'S' has no stages, so there is no layer 2; try layer: pooled"):
        distiller.check(distiller.Parameters(layer=2), pair(student=FLAT))
    with pytest.raises(Refusal, match="have 2 stages that meet, so there is no layer 3"):
        distiller.check(distiller.Parameters(layer=3), pair())
    uneven = FeatureShapes((3,), (4,), ((15, 8), (15, 8)))
    with pytest.raises(Refusal, match="the 15 tokens of student 'S' at stage 1 are no square"):
        distiller.check(distiller.Parameters(layer=2), pair(student=uneven))
    with pytest.raises(Refusal, match="no pooled feature"):
        distiller.check(distiller.Parameters(layer="pooled"), pair(student=FeatureShapes((3,), None, ())))
    distiller.check(distiller.Parameters(layer="pooled"), pair(student=FLAT))


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_mix_by_hand(share: float) -> None:
    student = build_model("cnn_2", inputs=InputSpec.image((1, 8, 8)), num_classes=3)
    teacher = build_model("cnn_2", inputs=InputSpec.image((1, 8, 8)), num_classes=3)
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
    student = build_model("mlp_4", inputs=TINY, num_classes=3)
    teacher = build_model("mlp_4", inputs=TINY, num_classes=3)
    distiller = make("interpolate", pair(same=True), lam=1.0, every=every)
    distiller.prepare(networks(student, teacher))
    found = []
    for index in range(4):
        with torch.no_grad():
            student.head.weight.zero_()
        distiller.after_step(student, teacher, epoch_ended=index % 2 == 1, ended=index == 3)
        found.append(int(torch.equal(student.head.weight, teacher.head.weight)))
    assert found == steps


def test_the_teacher_that_trains_alongside_starts_elsewhere_and_is_trained() -> None:
    student = build_model("mlp_4", inputs=TINY, num_classes=3)
    distiller = make("interpolate", pair(same=True), teacher="alongside", lam=0.5)
    distiller.prepare(networks(student, student))
    assert not torch.equal(distiller.peer.head.weight, student.head.weight)
    x, target = torch.randn(5, 1, 2, 2), torch.zeros(5, dtype=torch.long)
    step = Batch(target, torch.arange(5), 0.5, run=lambda network: network(x))
    distiller.losses(Outputs(student(x)), None, step)["teacher_ce"].backward()
    assert distiller.peer.head.weight.grad.abs().sum() > 0
    assert student.head.weight.grad is None
    assert set(distiller.adapters()) == {"peer"}


def test_the_barrier_is_zero_on_a_line_and_positive_over_a_hill() -> None:
    student = build_model("mlp_4", inputs=TINY, num_classes=3)
    teacher = build_model("mlp_4", inputs=TINY, num_classes=3)
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


def test_two_peers_by_hand() -> None:
    z_s, z_peer = torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[1.0, 0.0, 0.5]])
    p_s, p_peer = (softmax(z.numpy(), axis=1)[0] for z in (z_s, z_peer))
    terms = mutual(z_s, [z_peer], [1])
    assert terms["ce"].item() == pytest.approx(-math.log(p_s[1]), rel=1e-5)
    assert terms["mutual"].item() == pytest.approx(rel_entr(p_peer, p_s).sum(), rel=1e-5)
    assert terms["peers_ce"].item() == pytest.approx(-math.log(p_peer[1]), rel=1e-5)
    assert terms["peers_mutual"].item() == pytest.approx(rel_entr(p_s, p_peer).sum(), rel=1e-5)


def test_a_student_hears_the_mean_of_its_peers_and_none_of_their_gradient() -> None:
    torch.manual_seed(0)
    z = [torch.randn(4, 3, requires_grad=True) for _ in range(3)]
    terms = mutual(z[0], z[1:], [0, 1, 2, 0])
    pulls = [soft_loss(z[0], other, 1.0).item() for other in z[1:]]
    assert terms["mutual"].item() == pytest.approx(sum(pulls) / 2, rel=1e-5)
    terms["mutual"].backward()
    assert z[0].grad.abs().sum() > 0
    assert z[1].grad is None and z[2].grad is None


def test_peers_that_agree_have_nothing_to_teach() -> None:
    z = torch.randn(4, 3, dtype=torch.float64)
    terms = mutual(z, [z, z + 5.0], [0, 1, 2, 0])
    assert terms["mutual"].item() == pytest.approx(0, abs=1e-12)
    assert terms["peers_mutual"].item() == pytest.approx(0, abs=1e-12)


def test_the_peers_are_fresh_networks_of_the_method_itself() -> None:
    distiller = make("dml", peers=2)
    distiller.prepare(networks())
    first, second = distiller.peers
    assert not torch.equal(first.head.weight, second.head.weight)
    assert set(distiller.adapters()) == {"peers"}


def mutual(student: torch.Tensor, peers: list[torch.Tensor], target: list[int]) -> dict[str, torch.Tensor]:
    """Return the losses of dml where the peers give these logits."""
    distiller = make("dml", peers=len(peers))
    distiller.peers = list(range(len(peers)))
    step = Batch(torch.tensor(target), torch.arange(len(target)), 0.5, run=lambda number: peers[number])
    return distiller.losses(Outputs(student), None, step)


@pytest.mark.parametrize("name", ["born_again", "takd"])
def test_chains_learn_by_the_loss_of_kd(name: str) -> None:
    z_s, z_t = torch.randn(6, 5), torch.randn(6, 5)
    values = {"temperature": 3.0, "alpha": 0.7, "beta": 0.2}
    extra = {"assistants": ("resnet8",)} if name == "takd" else {}
    target = [0, 1, 2, 3, 4, 0]
    chained = losses(make(name, **values, **extra), Outputs(z_s), Outputs(z_t), target)
    plain = losses(make("kd", **values), Outputs(z_s), Outputs(z_t), target)
    assert {key: term.item() for key, term in chained.items()} == {k: t.item() for k, t in plain.items()}


def test_chains_name_the_models_between_teacher_and_student() -> None:
    born, takd = (find_method(name).distiller for name in ("born_again", "takd"))
    assert born.assistants(born.Parameters(generations=3), "resnet20") == ("resnet20", "resnet20")
    assert takd.assistants(takd.Parameters(assistants=("a", "b")), "resnet20") == ("a", "b")
    with pytest.raises(Refusal, match="no assistant is named"):
        takd.check(takd.Parameters(), pair())


@pytest.mark.parametrize("name", ["at", "rkd", "crd", "dist"])
def test_any_method_can_be_combined_with_kd(name: str) -> None:
    student, teacher = outputs(MAP, seed=1), outputs(WIDE, seed=2)
    target = [0, 1, 2, 0, 1, 2]

    def found(**weights: float) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        distiller = make(name, **weights)
        distiller.prepare(networks())
        return losses(distiller, student, teacher, target)

    plain = found()
    both = found(kd=0.5, kd_temperature=2.0, ce=0.3)
    soft = soft_loss(student.logits, teacher.logits, 2.0).item()
    assert "kd" not in plain
    assert both["kd"].item() == pytest.approx(0.5 * soft, rel=1e-5)
    assert both["ce"].item() == pytest.approx(0.3 * plain["ce"].item(), rel=1e-5)
    for key in plain.keys() - {"ce"}:
        assert both[key].item() == pytest.approx(plain[key].item(), rel=1e-5)


@pytest.mark.parametrize("name", sorted(methods()))
def test_every_method_says_where_it_comes_from(name: str) -> None:
    method = methods()[name]
    assert method.title and method.source and 1980 < method.year < 2100
    method.parameters()  # every hyper-parameter has a default
