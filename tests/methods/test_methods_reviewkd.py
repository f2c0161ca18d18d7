"""Review of shallow stages with deep ones: levels, attention and the hierarchical loss."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kdbench.methods import FeatureShapes, Pair
from kdbench.methods.distillers.reviewkd import hierarchical_loss, levels, resized
from tests.methods.given import (
    FINAL,
    MAP,
    NO_POOLED,
    THREE_STAGES,
    TOKENS,
    WIDE,
    leaves,
    losses,
    make,
    mean_squared,
    outputs,
    pair,
    pooled_by_hand,
)


@pytest.mark.parametrize(("side", "pools"), [(8, [4, 2, 1]), (4, [2, 1]), (2, [1]), (1, [])])
def test_the_hierarchical_loss_by_hand(side: int, pools: list[int]) -> None:
    generator = torch.Generator().manual_seed(0)
    g, f = (torch.randn(2, 3, side, side, generator=generator, dtype=torch.float64) for _ in range(2))
    expected, total = mean_squared(g.numpy(), f.numpy()), 1.0
    for j, pool in enumerate(pools, start=1):
        expected += 2**-j * mean_squared(pooled_by_hand(g.numpy(), pool), pooled_by_hand(f.numpy(), pool))
        total += 2**-j
    assert float(hierarchical_loss(g, f)) == pytest.approx(expected / total, rel=1e-9)


def test_the_hierarchical_loss_of_a_shift_is_its_square_and_of_identical_maps_zero() -> None:
    for side in (1, 3, 5, 8):
        f = torch.randn(2, 3, side, side, dtype=torch.float64)
        assert float(hierarchical_loss(f, f)) == 0
        assert float(hierarchical_loss(f + 3, f)) == pytest.approx(9, rel=1e-9)


def test_maps_are_resized_to_the_nearest_neighbour() -> None:
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    expected = [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    assert resized(x, (4, 4))[0, 0].tolist() == expected
    assert resized(x, (1, 1)).tolist() == [[[[1.0]]]]
    assert resized(x, (2, 2)) is x


def test_a_level_is_mixed_with_the_deeper_ones_as_its_attention_says() -> None:
    of = pair(*[FeatureShapes((3,), (2,), ((2, 4, 4), (2, 2, 2)))] * 2)
    distiller = make("reviewkd", of)
    for parts in (distiller.inward, distiller.outward):
        for place in range(3):
            parts[place] = nn.Identity()
    a, b = 0.25, 0.5
    for level in distiller.attention:
        with torch.no_grad():
            level[0].weight.zero_()
            level[0].bias.copy_(torch.logit(torch.tensor([a, b])))
    features = [torch.randn(3, 2, side, side) for side in (4, 2, 1)]
    first, second, deepest = (feature.tolist() for feature in features)
    found = [map_.tolist() for map_ in distiller.review(features)]
    for i in range(3):
        for c in range(2):
            assert found[2][i][c][0][0] == deepest[i][c][0][0]
            for row in range(4):
                for column in range(4):
                    up = a * second[i][c][row // 2][column // 2] + b * deepest[i][c][0][0]
                    if row % 2 == column % 2 == 0:
                        assert found[1][i][c][row // 2][column // 2] == pytest.approx(up, rel=1e-5, abs=1e-6)
                    expected = a * first[i][c][row][column] + b * up
                    assert found[0][i][c][row][column] == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_the_attention_sees_both_levels() -> None:
    distiller = make("reviewkd", pair(MAP, MAP))
    distiller.adapters().eval()
    with torch.no_grad():
        for part, weight in ((slice(0, 5), 2.0), (slice(5, 10), -1.0)):
            distiller.attention[1][0].weight[:, part].fill_(weight)
        distiller.attention[1][0].bias.zero_()
    features = [*outputs(MAP).stages, outputs(MAP).pooled[:, :, None, None]]
    x = distiller.inward[1](features[1])
    y = distiller.inward[2](features[2]).expand_as(x)
    share = torch.sigmoid(2 * x.sum(1, keepdim=True) - y.sum(1, keepdim=True))
    torch.testing.assert_close(distiller.review(features)[1], distiller.outward[1](share * x + share * y))


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        (THREE_STAGES, WIDE, [((4, 4, 4), (3, 4, 4)), ((6, 2, 2), (7, 4, 4)), ((6, 1, 1), (7, 1, 1))]),
        (MAP, THREE_STAGES, [((2, 4, 4), (4, 4, 4)), ((5, 2, 2), (6, 2, 2)), ((5, 1, 1), (6, 1, 1))]),
        (NO_POOLED, WIDE, [((4, 4, 4), (3, 4, 4)), ((6, 2, 2), (7, 4, 4))]),
        (TOKENS, WIDE, [((6, 2, 2), (3, 4, 4)), ((6, 2, 2), (7, 4, 4)), ((6, 1, 1), (7, 1, 1))]),
    ],
)
def test_levels_meet_from_the_end_in_the_teachers_shapes(
    student: FeatureShapes, teacher: FeatureShapes, expected: list[tuple[tuple[int, ...], tuple[int, ...]]]
) -> None:
    of = pair(teacher, student)
    assert levels(of) == expected
    distiller = make("reviewkd", of)
    features = [torch.randn(2, *mine) for mine, _ in expected]
    assert [tuple(found.shape[1:]) for found in distiller.review(features)] == [t for _, t in expected]
    terms = losses(distiller, outputs(student), outputs(teacher, seed=1), [0, 1, 2] * 2)
    assert terms["review"].isfinite()


def test_the_review_term_is_the_weighted_sum_over_the_levels() -> None:
    distiller = make("reviewkd", weight=0.5)
    distiller.adapters().eval()
    student, teacher = outputs(MAP), outputs(WIDE, seed=1)
    mine = [*student.stages, student.pooled[:, :, None, None]]
    theirs = [*teacher.stages, teacher.pooled[:, :, None, None]]
    each = [
        float(hierarchical_loss(g, f).detach()) for g, f in zip(distiller.review(mine), theirs, strict=True)
    ]
    found = losses(distiller, student, teacher, [0, 1, 2] * 2)
    assert float(found["review"].detach()) == pytest.approx(0.5 * sum(each), rel=1e-5)
    assert set(found) == {"ce", "review"}


def test_the_weight_rises_over_the_warm_up() -> None:
    distiller = make("reviewkd")
    distiller.adapters().eval()
    student, teacher = outputs(MAP), outputs(WIDE, seed=1)

    def term(progress: float, **hyper: object) -> float:
        distiller.hyper = distiller.Parameters(**hyper)
        return float(losses(distiller, student, teacher, [0, 1, 2] * 2, progress)["review"].detach())

    full = term(1.0)
    assert term(0.0) == 0
    assert term(10 / 240) == pytest.approx(full / 2, rel=1e-5)
    assert term(20 / 240) == pytest.approx(full, rel=1e-5)
    assert term(0.0, warmup=0) == pytest.approx(full, rel=1e-5)


def test_the_common_width_is_the_deepest_levels_unless_it_is_set() -> None:
    def width(of: Pair, **hyper: object) -> int:
        return make("reviewkd", of, **hyper).inward[0][0].out_channels

    assert width(pair(student=FINAL)) == 9
    assert width(pair(student=NO_POOLED)) == 6
    assert width(pair(student=FeatureShapes((3,), (600,), ((2, 4, 4),)))) == 512
    assert width(pair(student=FINAL), width=3) == 3


def test_a_shallow_loss_reaches_the_deepest_feature() -> None:
    distiller = make("reviewkd")
    student = outputs(MAP)
    inputs = leaves(student)
    features = [*student.stages, student.pooled[:, :, None, None]]
    distiller.review(features)[0].square().sum().backward()
    assert all(feature.grad is not None and feature.grad.abs().sum() > 0 for feature in inputs)
