"""The losses on attention maps and on relations, against plain loops over their formulas."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from kdbench.methods import FeatureShapes, Outputs, Refusal, check_pair, find_method
from kdbench.methods.alignment import unit
from kdbench.methods.distillers.at import attention, attention_loss
from kdbench.methods.distillers.cc import congruence_loss
from kdbench.methods.distillers.nst import discrepancy
from kdbench.methods.distillers.pkt import log_neighbourhoods, neighbourhood_loss
from kdbench.methods.distillers.rkd import angle_cosines, angle_loss, distance_loss, relative_distances
from kdbench.methods.distillers.sp import similarities, similarity_loss
from tests.methods.given import FLAT, MAP, TOKENS, WIDE, batch, losses, make, outputs, pair

ON_MAPS = ["at", "sp", "nst"]
ON_POOLED = ["rkd", "pkt", "cc"]
PURE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "at": attention_loss,
    "nst": discrepancy,
    "sp": similarity_loss,
    "rkd distance": distance_loss,
    "rkd angle": angle_loss,
    "pkt": neighbourhood_loss,
    "cc": congruence_loss,
}

Vector = Sequence[float]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def features(name: str, seed: int, count: int = 5) -> Tensor:
    """Return random features of the kind that a pure loss takes."""
    return draw(count, 3, 4, 4, seed=seed) if name in ("at", "nst") else draw(count, 6, seed=seed)


def rotation(size: int) -> Tensor:
    return torch.linalg.qr(draw(size, size, seed=99)).Q


def dot(x: Vector, y: Vector) -> float:
    return sum(a * b for a, b in zip(x, y, strict=True))


def normalised(x: Vector) -> list[float]:
    length = math.sqrt(dot(x, x))
    return [a / length for a in x]


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def smooth_l1(difference: float) -> float:
    size = abs(difference)
    return size**2 / 2 if size < 1 else size - 0.5


# at


def attention_by_loops(stage: Tensor, power: float) -> list[list[float]]:
    """Return Q of every image of maps (B, C, H, W)."""
    maps = []
    for image in stage.tolist():
        rows, columns = range(len(image[0])), range(len(image[0][0]))
        energies = [
            mean([abs(channel[row][column]) ** power for channel in image])
            for row in rows
            for column in columns
        ]
        maps.append(normalised(energies))
    return maps


def test_the_attention_map_of_two_channels_by_hand() -> None:
    stage = torch.tensor([[[[1.0, 2.0]], [[1.0, -2.0]]]])  # mean squares 1 and 4, whose norm is √17
    expected = torch.tensor([[1.0, 4.0]]) / math.sqrt(17)
    torch.testing.assert_close(attention(stage, 2.0), expected)
    torch.testing.assert_close(attention(stage, 1.0), torch.tensor([[1.0, 2.0]]) / math.sqrt(5))


@pytest.mark.parametrize("power", [1.0, 2.0, 3.5])
def test_attention_loss_follows_the_formula(power: float) -> None:
    f_s, f_t = draw(4, 2, 3, 3, seed=1), draw(4, 5, 3, 3, seed=2)
    pairs = zip(attention_by_loops(f_s, power), attention_by_loops(f_t, power), strict=True)
    squares = [(a - b) ** 2 for q_s, q_t in pairs for a, b in zip(q_s, q_t, strict=True)]
    assert float(attention_loss(f_s, f_t, power)) == pytest.approx(mean(squares), rel=1e-10)


def test_attention_looks_at_places_and_not_at_channels_or_scale() -> None:
    f_s, f_t = draw(4, 3, 4, 4, seed=1), draw(4, 3, 4, 4, seed=2)
    expected = float(attention_loss(f_s, f_t))
    changed = -7.0 * f_s[:, [2, 0, 1]]
    assert float(attention_loss(changed, f_t)) == pytest.approx(expected, rel=1e-10)
    assert float(attention_loss(f_s.roll(1, 3), f_t)) != pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_attention_keeps_its_value_for_tiny_and_huge_activations(scale: float) -> None:
    stage = draw(2, 3, 4, 4).float()
    torch.testing.assert_close(attention(scale * stage, 4.0), attention(stage, 4.0))


def test_the_gradient_of_attention_is_that_of_its_formula() -> None:
    # the largest activation, by which the map is divided first, is held constant; it must not matter
    f_t = draw(2, 2, 2, 2, seed=2)
    f_s = draw(2, 2, 2, 2, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda f: attention_loss(f, f_t), f_s)


def test_at_sums_over_stages_and_pools_the_larger_map() -> None:
    student, teacher = outputs(MAP, seed=1), outputs(WIDE, seed=2)
    pooled = teacher.stages[1].reshape(6, 7, 2, 2, 2, 2).mean((3, 5))  # 4×4 to 2×2
    expected = 0.0
    for f_s, f_t in ((student.stages[0], teacher.stages[0]), (student.stages[1], pooled)):
        pairs = zip(attention_by_loops(f_s, 2), attention_by_loops(f_t, 2), strict=True)
        expected += mean([(a - b) ** 2 for q_s, q_t in pairs for a, b in zip(q_s, q_t, strict=True)])
    terms = make("at").terms(student, teacher, batch([0] * 6))
    assert float(terms["attention"]) == pytest.approx(1000 * expected, rel=1e-4)


@pytest.mark.parametrize("name", ["at", "nst"])
def test_stages_meet_from_the_last_backwards(name: str) -> None:
    three = FeatureShapes((3,), (5,), ((4, 8, 8), *MAP.stages))
    student, teacher = outputs(MAP, seed=1), outputs(three, seed=2)
    same_stages = Outputs(teacher.logits, teacher.pooled, teacher.stages[1:])
    found = make(name, pair(teacher=three)).terms(student, teacher, batch([0] * 6))
    expected = make(name, pair(teacher=MAP)).terms(student, same_stages, batch([0] * 6))
    assert found == expected


# rkd


def distances_by_loops(rows: list[list[float]]) -> list[float]:
    distances = [math.dist(x, y) for x in rows for y in rows]
    centre = mean([distance for distance in distances if distance > 0])
    return [distance / centre for distance in distances]


def angles_by_loops(rows: list[list[float]]) -> list[float]:
    """Return the cosine at i between j and k, for all i, j, k; 0 where one of them is i."""
    cosines = []
    for i, j, k in itertools.product(range(len(rows)), repeat=3):
        first = [a - b for a, b in zip(rows[j], rows[i], strict=True)]
        second = [a - b for a, b in zip(rows[k], rows[i], strict=True)]
        cosines.append(0.0 if i in (j, k) else dot(normalised(first), normalised(second)))
    return cosines


def test_relations_of_a_right_triangle_by_hand() -> None:
    corners = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])  # sides 3, 4, 5 of mean 4
    expected = torch.tensor([[0.0, 3.0, 4.0], [3.0, 0.0, 5.0], [4.0, 5.0, 0.0]]) / 4
    torch.testing.assert_close(relative_distances(corners), expected)
    cosines = angle_cosines(corners)
    assert float(cosines[0, 1, 2]) == pytest.approx(0, abs=1e-6)
    assert float(cosines[1, 0, 2]) == pytest.approx(3 / 5)
    assert float(cosines[2, 0, 1]) == pytest.approx(4 / 5)


def test_rkd_follows_the_formula() -> None:
    f_s, f_t = draw(5, 4, seed=1), draw(5, 7, seed=2)
    f_s[3] *= 20  # far away, so that the linear part of the smooth L1 loss is met
    for loss, by_loops in ((distance_loss, distances_by_loops), (angle_loss, angles_by_loops)):
        gaps = [a - b for a, b in zip(by_loops(f_s.tolist()), by_loops(f_t.tolist()), strict=True)]
        assert max(map(abs, gaps)) > 1
        expected = mean([smooth_l1(gap) for gap in gaps])
        assert float(loss(f_s, f_t)) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("loss", [distance_loss, angle_loss])
def test_rkd_ignores_rotation_shift_and_scale(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    f_s, f_t = draw(6, 4, seed=1), draw(6, 5, seed=2)
    moved = 3.0 * f_s @ rotation(4) + draw(1, 4, seed=3)
    assert float(loss(moved, f_t)) == pytest.approx(float(loss(f_s, f_t)), rel=1e-10)
    assert float(loss(moved, f_s)) == pytest.approx(0, abs=1e-20)
    assert float(loss(f_s * torch.tensor([5.0, 1, 1, 1]), f_s)) > 1e-3


def test_rkd_weights_and_variants() -> None:
    student, teacher = outputs(MAP, seed=1), outputs(WIDE, seed=2)
    assert student.pooled is not None and teacher.pooled is not None
    terms = make("rkd").terms(student, teacher, batch([0] * 6))
    assert float(terms["distance"]) == pytest.approx(
        25 * float(distance_loss(student.pooled, teacher.pooled))
    )
    assert float(terms["angle"]) == pytest.approx(50 * float(angle_loss(student.pooled, teacher.pooled)))
    assert set(make("rkd", angle=0).terms(student, teacher, batch([0] * 6))) == {"distance"}
    assert set(make("rkd", distance=0).terms(student, teacher, batch([0] * 6))) == {"angle"}


# sp


def test_similarities_of_two_images_by_hand() -> None:
    a = torch.tensor([[1.0, 0.0], [1.0, 1.0]])  # A·Aᵀ = [[1, 1], [1, 2]]
    expected = torch.tensor([[1 / math.sqrt(2)] * 2, [1 / math.sqrt(5), 2 / math.sqrt(5)]])
    torch.testing.assert_close(similarities(a), expected)


def test_sp_follows_the_formula_on_the_last_stage() -> None:
    student, teacher = outputs(MAP, seed=1), outputs(WIDE, seed=2)
    matrices = []
    for stage in (student.stages[-1], teacher.stages[-1]):
        rows = stage.flatten(1).tolist()
        matrices.append([normalised([dot(x, y) for y in rows]) for x in rows])
    squares = [(a - b) ** 2 for x, y in zip(*matrices, strict=True) for a, b in zip(x, y, strict=True)]
    terms = make("sp").terms(student, teacher, batch([0] * 6))
    assert float(terms["similarity"]) == pytest.approx(3000 * sum(squares) / 6**2, rel=1e-4)


def test_sp_ignores_rotation_and_scale_but_not_shift() -> None:
    f_s, f_t = draw(6, 8, seed=1), draw(6, 9, seed=2)
    expected = float(similarity_loss(f_s, f_t))
    assert float(similarity_loss(-4.0 * f_s @ rotation(8), f_t)) == pytest.approx(expected, rel=1e-10)
    assert float(similarity_loss(f_s + 1.0, f_t)) != pytest.approx(expected, rel=1e-3)


# pkt


def test_neighbourhoods_by_hand() -> None:
    f = torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]])  # cosines of the first: 1, 0, −1
    q = log_neighbourhoods(f).exp()
    torch.testing.assert_close(q[0], torch.tensor([2 / 3, 1 / 3, 0.0]), atol=1e-6, rtol=0)
    torch.testing.assert_close(q[1], torch.tensor([1 / 4, 1 / 2, 1 / 4]))


def test_pkt_follows_the_formula() -> None:
    student, teacher = outputs(MAP, seed=1), outputs(WIDE, seed=2)
    distributions = []
    for pooled in (student.pooled, teacher.pooled):
        assert pooled is not None
        rows = [normalised(row) for row in pooled.tolist()]
        closeness = [[(1 + dot(x, y)) / 2 for y in rows] for x in rows]
        distributions.append([[entry / sum(row) for entry in row] for row in closeness])
    q_s, q_t = distributions
    places = list(itertools.product(range(6), repeat=2))
    expected = mean([q_t[i][j] * math.log(q_t[i][j] / q_s[i][j]) for i, j in places])
    terms = make("pkt").terms(student, teacher, batch([0] * 6))
    assert float(terms["neighbourhood"]) == pytest.approx(30000 * expected, rel=1e-4)


def test_pkt_ignores_the_scale_of_every_image_and_rotation() -> None:
    f_s, f_t = draw(6, 4, seed=1), draw(6, 5, seed=2)
    expected = float(neighbourhood_loss(f_s, f_t))
    scales = torch.tensor([[0.01], [1.0], [2.0], [50.0], [3.0], [0.5]], dtype=torch.float64)
    assert float(neighbourhood_loss(scales * f_s @ rotation(4), f_t)) == pytest.approx(expected, rel=1e-10)
    flipped = f_s * torch.tensor([[-1.0], [1], [1], [1], [1], [1]])
    assert float(neighbourhood_loss(flipped, f_t)) != pytest.approx(expected, rel=1e-3)


def test_pkt_is_finite_for_opposite_features() -> None:
    f_s = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], requires_grad=True)
    loss = neighbourhood_loss(f_s, torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    # q_t = ½ throughout, and q_s = (1, 1e-7): the mean of ½·log(½/1) and ½·log(½/1e-7)
    assert loss.item() == pytest.approx((math.log(0.5) + math.log(0.5e7)) / 4, rel=1e-4)
    loss.backward()
    assert f_s.grad is not None and torch.isfinite(f_s.grad).all()


# cc


def test_congruence_by_hand() -> None:
    e_s = torch.tensor([[1.0, 2.0], [0.0, -3.0], [4.0, 0.0]])
    e_t = torch.tensor([[0.0, 0.0], [2.0, 0.0], [3.0, 5.0]])
    # |δ| = (1, 2), (2, 3), (1, 5): 1·2 + 2·3 = 8 and 2·1 + 3·5 = 17
    assert float(congruence_loss(e_s, e_t)) == pytest.approx((8 + 17) / 2)


def test_congruence_of_a_single_image_is_zero() -> None:
    assert float(congruence_loss(torch.ones(1, 4), torch.zeros(1, 4))) == 0


def test_cc_embeds_both_sides_and_trains_both_embeddings() -> None:
    distiller = make("cc", width=2)
    student, teacher = outputs(MAP, seed=1), outputs(WIDE, seed=2)
    assert student.pooled is not None and teacher.pooled is not None
    embedded = []
    for pooled, layer in (
        (student.pooled, distiller.student_embedding),
        (teacher.pooled, distiller.teacher_embedding),
    ):
        weight, bias = layer.weight.tolist(), layer.bias.tolist()
        embedded.append([[dot(w, f) + b for w, b in zip(weight, bias, strict=True)] for f in pooled.tolist()])
    gaps = [[abs(a - b) for a, b in zip(x, y, strict=True)] for x, y in zip(*embedded, strict=True)]
    expected = mean([dot(gaps[i], gaps[i + 1]) for i in range(5)])
    student.pooled.requires_grad_()
    terms = distiller.terms(student, teacher, batch([0] * 6))
    assert terms["congruence"].item() == pytest.approx(0.02 * expected, rel=1e-4)
    terms["congruence"].backward()
    assert set(distiller.adapters()) == {"student_embedding", "teacher_embedding"}
    for tensor in (student.pooled, *distiller.adapters().parameters()):
        assert tensor.grad is not None and tensor.grad.abs().sum() > 0


def test_cc_embeds_in_128_numbers_by_default() -> None:
    sizes = {
        name: sum(p.numel() for p in module.parameters()) for name, module in make("cc").adapters().items()
    }
    assert sizes == {"student_embedding": (5 + 1) * 128, "teacher_embedding": (7 + 1) * 128}


# nst


def discrepancy_by_loops(f_s: Tensor, f_t: Tensor) -> float:
    """Return MMD² with the kernel (xᵀy)² by all pairs of channels, the mean over the images."""

    def kernel(first: list[list[float]], second: list[list[float]]) -> float:
        return mean([dot(x, y) ** 2 for x in first for y in second])

    values = []
    for image_s, image_t in zip(f_s.flatten(2).tolist(), f_t.flatten(2).tolist(), strict=True):
        s, t = [normalised(row) for row in image_s], [normalised(row) for row in image_t]
        values.append(kernel(t, t) + kernel(s, s) - 2 * kernel(t, s))
    return mean(values)


def test_discrepancy_of_two_channels_by_hand() -> None:
    f_s = torch.tensor([[[[5.0, 0.0]]]])  # one channel, (1, 0)
    f_t = torch.tensor([[[[0.0, 2.0]], [[3.0, 0.0]]]])  # (0, 1) and (1, 0)
    # k_tt: mean of 1, 0, 0, 1; k_ss: 1; k_ts: mean of 0, 1
    assert float(discrepancy(f_s, f_t)) == pytest.approx(0.5 + 1 - 2 * 0.5)


@pytest.mark.parametrize("channels", [(2, 3), (2, 20), (20, 3), (9, 9), (10, 10)])
def test_discrepancy_follows_the_formula_for_few_and_for_many_channels(channels: tuple[int, int]) -> None:
    f_s, f_t = (draw(3, count, 3, 3, seed=seed) for seed, count in enumerate(channels))
    expected = discrepancy_by_loops(f_s, f_t)
    assert float(discrepancy(f_s, f_t)) == pytest.approx(expected, rel=1e-9)


def test_nst_ignores_the_order_the_number_and_the_scale_of_channels() -> None:
    f_t = draw(4, 3, 4, 4)
    scales = torch.tensor([-1.0, 2.0, 30.0]).view(1, 3, 1, 1)
    assert float(discrepancy((scales * f_t)[:, [1, 2, 0]], f_t)) == pytest.approx(0, abs=1e-12)
    assert float(discrepancy(f_t.repeat(1, 2, 1, 1), f_t)) == pytest.approx(0, abs=1e-12)
    assert float(discrepancy(f_t.roll(1, 0), f_t)) > 1e-3  # but not which image they belong to


def test_nst_sums_over_stages_and_pools_the_larger_map() -> None:
    student, teacher = outputs(MAP, seed=1), outputs(WIDE, seed=2)
    pooled = teacher.stages[1].reshape(6, 7, 2, 2, 2, 2).mean((3, 5))
    expected = discrepancy_by_loops(student.stages[0], teacher.stages[0])
    expected += discrepancy_by_loops(student.stages[1], pooled)
    terms = make("nst").terms(student, teacher, batch([0] * 6))
    assert float(terms["selectivity"]) == pytest.approx(50 * expected, rel=1e-4)


# all


@pytest.mark.parametrize("name", sorted(PURE))
def test_identical_features_cost_nothing_and_others_something(name: str) -> None:
    f, other = features(name, 1), features(name, 2)
    assert float(PURE[name](f, f)) == pytest.approx(0, abs=1e-12)
    assert float(PURE[name](f, other)) > 1e-4


@pytest.mark.parametrize("name", sorted(PURE))
@pytest.mark.parametrize("kind", ["zero", "zero for one image", "constant", "equal for two images"])
def test_degenerate_features_have_moderate_gradients(name: str, kind: str) -> None:
    f_s, f_t = features(name, 1).float(), features(name, 2).float()
    if kind == "zero":
        f_s = torch.zeros_like(f_s)
    elif kind == "zero for one image":
        f_s[2] = 0
    elif kind == "constant":
        f_s = torch.ones_like(f_s)
    else:
        f_s[2] = f_s[3]
    for student, teacher in ((f_s, f_t), (f_s, f_s), (f_t, f_s)):
        student = student.clone().requires_grad_()
        loss = PURE[name](student, teacher.clone())
        loss.backward()
        assert torch.isfinite(loss)
        assert student.grad is not None and torch.isfinite(student.grad).all()
        assert float(student.grad.abs().max()) < 10  # dividing by a tiny constant would give 1e8 and more


@pytest.mark.parametrize("name", sorted(PURE))
def test_descending_the_gradient_lowers_the_loss(name: str) -> None:
    f_s, f_t = features(name, 1).requires_grad_(), features(name, 2)
    loss = PURE[name](f_s, f_t)
    loss.backward()
    assert f_s.grad is not None
    step = 0.01 * float(loss) / float(f_s.grad.square().sum())
    found = float(PURE[name](f_s.detach() - step * f_s.grad, f_t))
    assert found == pytest.approx(0.99 * float(loss), rel=5e-3)


@pytest.mark.parametrize("name", ON_MAPS + ON_POOLED)
@pytest.mark.parametrize("teacher", [WIDE, TOKENS], ids=["maps", "tokens"])
@pytest.mark.parametrize("student", [MAP, TOKENS], ids=["maps", "tokens"])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_gradients_reach_the_student_from_maps_and_tokens(
    name: str, teacher: FeatureShapes, student: FeatureShapes, scale: float
) -> None:
    of = pair(teacher=teacher, student=student)
    distiller = find_method(name).distiller
    check_pair(distiller, distiller.Parameters(), of)
    out_s, out_t = outputs(student, scale=scale, seed=1), outputs(teacher, scale=scale, seed=2)
    assert out_s.pooled is not None
    used = out_s.pooled if name in ON_POOLED else out_s.stages[-1]
    used.requires_grad_()
    terms = losses(make(name, of), out_s, out_t, [0, 1, 2, 0, 1, 2])
    loss = torch.stack(list(terms.values())).sum()
    loss.backward()
    assert torch.isfinite(loss)
    for tensor in (out_s.logits, used):
        assert tensor.grad is not None and torch.isfinite(tensor.grad).all() and tensor.grad.abs().sum() > 0
    assert all(term.dim() == 0 for term in terms.values())


@pytest.mark.parametrize("name", ON_MAPS)
def test_a_class_token_has_no_place_on_the_map(name: str) -> None:
    of = pair(teacher=TOKENS, student=TOKENS)
    student, teacher = outputs(TOKENS, seed=1), outputs(TOKENS, seed=2)
    expected = make(name, of).terms(student, teacher, batch([0] * 6))
    for stage in student.stages:
        stage[:, 0] += 100
    assert make(name, of).terms(student, teacher, batch([0] * 6)) == expected
    for stage in student.stages:
        stage[:, 1, 0] += 100
    assert make(name, of).terms(student, teacher, batch([0] * 6)) != expected


@pytest.mark.parametrize("name", ON_MAPS)
def test_methods_on_maps_refuse_a_network_without_maps(name: str) -> None:
    distiller = find_method(name).distiller
    with pytest.raises(Refusal, match=r"^student 'S' has no stages$"):
        check_pair(distiller, distiller.Parameters(), pair(student=FLAT))
    with pytest.raises(Refusal, match=r"^teacher 'T' has no stages$"):
        check_pair(distiller, distiller.Parameters(), pair(teacher=FLAT))
    oblong = FeatureShapes((3,), (6,), ((7, 6),))
    with pytest.raises(Refusal, match=r"^the 7 tokens of student 'S' at stage 1 are no square$"):
        check_pair(distiller, distiller.Parameters(), pair(student=oblong))


@pytest.mark.parametrize("name", ["at", "nst"])
def test_methods_on_places_refuse_maps_of_one_position(name: str) -> None:
    distiller = find_method(name).distiller
    point = FeatureShapes((3,), (5,), ((5, 1, 1),))
    reason = (
        "^the stages of teacher 'T' and student 'S' meet in maps of one position, "
        "where there is nothing to compare$"
    )
    with pytest.raises(Refusal, match=reason):
        check_pair(distiller, distiller.Parameters(), pair(student=point))
    row = FeatureShapes((3,), (5,), ((5, 1, 2),))
    check_pair(distiller, distiller.Parameters(), pair(student=row))
    both = FeatureShapes((3,), (5,), ((2, 2, 2), (5, 1, 1)))
    check_pair(distiller, distiller.Parameters(), pair(student=both))


@pytest.mark.parametrize("name", ON_POOLED)
def test_methods_on_pooled_features_take_networks_without_maps(name: str) -> None:
    of = pair(student=FLAT)
    distiller = find_method(name).distiller
    check_pair(distiller, distiller.Parameters(), of)
    terms = make(name, of).terms(outputs(FLAT, seed=1), outputs(WIDE, seed=2), batch([0] * 6))
    assert all(float(term) > 0 for term in terms.values())


@pytest.mark.parametrize("name", ON_POOLED)
def test_methods_on_pooled_features_refuse_a_network_without_them(name: str) -> None:
    distiller = find_method(name).distiller
    bare = FeatureShapes((3,), None, MAP.stages)
    with pytest.raises(Refusal, match="teacher 'T' has no pooled feature"):
        check_pair(distiller, distiller.Parameters(), pair(teacher=bare))


@pytest.mark.parametrize("name", ON_MAPS + ON_POOLED)
def test_cross_entropy_and_plain_kd_stand_beside_the_terms(name: str) -> None:
    student, teacher = outputs(MAP, seed=1), outputs(WIDE, seed=2)
    alone = losses(make(name), student, teacher, [0, 1, 2, 0, 1, 2])
    with_kd = losses(make(name, kd=1.0), student, teacher, [0, 1, 2, 0, 1, 2])
    assert set(with_kd) - set(alone) == {"kd"}
    assert float(alone["ce"]) == pytest.approx(
        float(np.mean([-student.logits.log_softmax(1)[i, y].item() for i, y in enumerate([0, 1, 2] * 2)])),
        rel=1e-5,
    )


@pytest.mark.parametrize("name", ON_MAPS + ON_POOLED)
def test_a_batch_of_one_image_is_finite(name: str) -> None:
    student, teacher = outputs(MAP, count=1, seed=1), outputs(WIDE, count=1, seed=2)
    assert student.pooled is not None
    tensors = (student.pooled, *student.stages)
    for tensor in tensors:
        tensor.requires_grad_()
    loss = torch.stack(list(losses(make(name), student, teacher, [0]).values())).sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(tensor.grad).all() for tensor in tensors if tensor.grad is not None)


def test_unit_vectors_keep_directions_and_leave_zeros() -> None:
    vectors = torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, -1e-6]])
    torch.testing.assert_close(unit(vectors, 1), torch.tensor([[0.6, 0.8], [0.0, 0.0], [0.0, -1.0]]))
