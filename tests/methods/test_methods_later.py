"""Contrast, review, reuse and class attention, against plain loops over their formulas."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kdbench.errors import UserError
from kdbench.methods import FeatureShapes, Networks, Outputs, Pair, Refusal, crd, find_method
from kdbench.methods.cat_kd import activation_maps, attention_transfer
from kdbench.methods.crd import draw_outside, noise_contrastive_loss, remember, scores_at
from kdbench.methods.reviewkd import hierarchical_loss, levels, resized
from kdbench.models import FeatureReader, build_model, find_taps
from kdbench.suite import ModelEntry, TapsEntry
from tests.methods.given import FLAT, MAP, TOKENS, WIDE, batch, losses, make, networks, outputs, pair

NAMES = ["crd", "reviewkd", "simkd", "cat_kd"]
THREE_STAGES = FeatureShapes((3,), (6,), ((2, 8, 8), (4, 4, 4), (6, 2, 2)))
NO_POOLED = FeatureShapes((3,), None, ((4, 4, 4), (6, 2, 2)))
FINAL = FeatureShapes((3,), (9,), ((2, 4, 4), (5, 2, 2)))


def prepared(name: str, of: Pair | None = None, given: Networks | None = None, **hyper: object) -> Any:
    torch.manual_seed(0)
    of = of or pair()
    distiller = make(name, of, **hyper)
    distiller.prepare(given or networks(of=of))
    return distiller


def check(name: str, of: Pair, **hyper: object) -> None:
    distiller = find_method(name).distiller
    distiller.check(distiller.Parameters(**hyper), of)


def leaves(found: Outputs) -> list[Tensor]:
    """Return the features of outputs, which then take a gradient."""
    features = [*found.stages, *([] if found.pooled is None else [found.pooled])]
    return [feature.requires_grad_() for feature in features]


def parameters(distiller: Any) -> list[nn.Parameter]:
    return [parameter for parameter in distiller.adapters().parameters() if parameter.requires_grad]


def mean_squared(x: np.ndarray, y: np.ndarray) -> float:
    total = 0.0
    for a, b in zip(x.ravel(), y.ravel(), strict=True):
        total += (float(a) - float(b)) ** 2
    return total / x.size


# all


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("features", ["random", "zero", "constant", "huge"])
def test_losses_and_gradients_are_finite(name: str, scale: float, features: str) -> None:
    distiller = prepared(name, ce=1.0, kd=1.0)
    student, teacher = outputs(MAP, scale=scale), outputs(WIDE, scale=scale, seed=1)
    factor, shift = {"random": (1, 0), "zero": (0, 0), "constant": (0, 1), "huge": (1e4, 0)}[features]
    for found in (student, teacher):
        found.stages = tuple(stage * factor + shift for stage in found.stages)
        found.pooled = found.pooled * factor + shift
    inputs = leaves(student)
    total = torch.stack(list(losses(distiller, student, teacher, [0, 1, 2, 0, 1, 2]).values())).sum()
    total.backward()
    given = [tensor.grad for tensor in (student.logits, *inputs, *parameters(distiller))]
    assert total.isfinite() and all(grad.isfinite().all() for grad in given if grad is not None)
    assert sum(grad is not None for grad in given) > 1


@pytest.mark.parametrize("name", NAMES)
def test_what_the_teacher_gives_takes_no_gradient_from_what_it_owns(name: str) -> None:
    given = networks()
    distiller = prepared(name, given=given)
    student, teacher = outputs(MAP), outputs(WIDE, seed=1)
    inputs = leaves(student)
    torch.stack(list(losses(distiller, student, teacher, [0, 1, 2, 0, 1, 2]).values())).sum().backward()
    assert any(feature.grad is not None and feature.grad.abs().sum() > 0 for feature in inputs)
    assert given.heads["teacher"].weight.grad is None and given.heads["teacher"].bias.grad is None
    assert all(parameter.grad is None for parameter in given.teacher.parameters())


@pytest.mark.parametrize("name", ["crd", "reviewkd", "simkd"])
def test_every_adapter_that_trains_gets_a_gradient(name: str) -> None:
    distiller = prepared(name)
    terms = losses(distiller, outputs(MAP), outputs(WIDE, seed=1), [0, 1, 2, 0, 1, 2])
    torch.stack(list(terms.values())).sum().backward()
    found = [parameter.grad for parameter in parameters(distiller)]
    assert found and all(grad is not None and grad.abs().sum() > 0 for grad in found)


@pytest.mark.parametrize("name", ["reviewkd", "simkd", "cat_kd"])
def test_methods_on_maps_take_tokens(name: str) -> None:
    for of in (pair(TOKENS, MAP), pair(WIDE, TOKENS), pair(TOKENS, TOKENS)):
        check(name, of)
        distiller = prepared(name, of)
        terms = losses(
            distiller, outputs(of.student_shapes), outputs(of.teacher_shapes, seed=1), [0, 1, 2] * 2
        )
        assert all(term.isfinite() for term in terms.values())


@pytest.mark.parametrize("name", ["reviewkd", "simkd", "cat_kd"])
def test_methods_on_maps_refuse_models_without(name: str) -> None:
    with pytest.raises(Refusal, match="student 'S' has no stages"):
        check(name, pair(student=FLAT))
    with pytest.raises(Refusal, match="the 6 tokens of teacher 'T' at stage 1 are no square"):
        check(name, pair(teacher=FeatureShapes((3,), (5,), ((6, 5),))))


# crd


def nce_by_hand(log_p: Sequence[Sequence[float]], weights: Sequence[Sequence[float]], ratio: float) -> float:
    total = 0.0
    for row, counted in zip(log_p, weights, strict=True):
        positive, *negatives = [math.exp(value) for value in row]
        total -= math.log(positive / (positive + ratio))
        for p, weight in zip(negatives, counted, strict=True):
            total -= weight * math.log(1 - p / (p + ratio))
    return total / len(log_p)


def unit_rows(*shape: int, seed: int = 0) -> Tensor:
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return drawn / drawn.norm(dim=1, keepdim=True)


def test_the_noise_contrastive_loss_by_hand() -> None:
    # P = (0.5, 0.25, 0.125), K/N = 0.5: −log(1/2) − 2·log(2/3) − log(4/5)
    log_p = torch.tensor([[0.5, 0.25, 0.125]]).log()
    found = float(noise_contrastive_loss(log_p, torch.tensor([[2.0, 1.0]]), 0.5))
    assert found == pytest.approx(math.log(2) + 2 * math.log(1.5) + math.log(1.25), rel=1e-6)
    log_p, weights = torch.randn(4, 6), torch.rand(4, 5)
    expected = nce_by_hand(log_p.tolist(), weights.tolist(), 1.7)
    assert float(noise_contrastive_loss(log_p, weights, 1.7)) == pytest.approx(expected, rel=1e-5)


def test_a_negative_that_counts_twice_is_one_that_was_drawn_twice() -> None:
    log_p = torch.randn(3, 4)
    twice = torch.cat([log_p, log_p[:, 2:3]], dim=1)
    counted = noise_contrastive_loss(log_p, torch.tensor([[1.0, 2.0, 1.0]]), 0.3)
    torch.testing.assert_close(noise_contrastive_loss(twice, torch.ones(1, 4), 0.3), counted)


def test_the_noise_contrastive_loss_falls_with_the_positive_and_rises_with_a_negative() -> None:
    log_p = torch.zeros(1, 3, requires_grad=True)
    noise_contrastive_loss(log_p, torch.ones(1, 2), 2.0).backward()
    # d/du softplus(−u) = −1/(1 + e^u) and d/du softplus(u) = 1/(1 + e^−u) at u = −log 2
    torch.testing.assert_close(log_p.grad, torch.tensor([[-2 / 3, 1 / 3, 1 / 3]]))


@pytest.mark.parametrize("largest", [1, 25, 2**25])
def test_scores_are_products_with_the_chosen_rows_in_any_parts(
    monkeypatch: pytest.MonkeyPatch, largest: int
) -> None:
    monkeypatch.setattr(crd, "LARGEST", largest)
    anchors, memory = torch.randn(5, 3), torch.randn(11, 3)
    rows = torch.randint(11, (5, 4))
    expected = [
        [sum(float(anchors[b, d] * memory[row, d]) for d in range(3)) for row in rows[b].tolist()]
        for b in range(5)
    ]
    torch.testing.assert_close(scores_at(anchors, memory, rows), torch.tensor(expected))


def test_draws_cover_what_lies_outside_of_the_block_evenly_and_nothing_else() -> None:
    torch.manual_seed(0)
    starts, counts = torch.tensor([0, 3, 8]), torch.tensor([3, 5, 2])
    drawn = draw_outside(starts, counts, 10, 7000)
    for row, start, count in zip(drawn.tolist(), starts.tolist(), counts.tolist(), strict=True):
        outside = [place for place in range(10) if not start <= place < start + count]
        assert sorted(set(row)) == outside
        expected = 7000 / len(outside)
        # five standard deviations of a binomial count
        assert all(abs(row.count(place) - expected) < 5 * math.sqrt(expected) for place in outside)


def test_negatives_never_share_the_class_of_their_anchor() -> None:
    labels = torch.tensor([2, 0, 1, 1, 0, 2, 0, 0, 1, 2, 0, 0])
    distiller = prepared("crd", given=replace(networks(), labels=labels), negatives=11)
    index = torch.tensor([5, 0, 3, 11])
    rows = distiller._rows[index]
    drawn, weights = distiller.negatives(rows)
    image_of = {int(row): image for image, row in enumerate(distiller._rows)}
    assert drawn.shape == (4, 11) and bool((weights == 1).all())
    for anchor, chosen in zip(index.tolist(), drawn.tolist(), strict=True):
        assert all(labels[image_of[row]] != labels[anchor] for row in chosen)


def test_with_few_images_every_one_of_another_class_counts_the_same() -> None:
    labels = torch.tensor([2, 0, 1, 1, 0, 2, 0])
    distiller = prepared("crd", given=replace(networks(), labels=labels), negatives=10)
    index = torch.tensor([1, 2])
    rows, weights = distiller.negatives(distiller._rows[index])
    image_of = {int(row): image for image, row in enumerate(distiller._rows)}
    for anchor, chosen, counted in zip(index.tolist(), rows.tolist(), weights.tolist(), strict=True):
        others = sum(int(label != labels[anchor]) for label in labels)
        for row, weight in zip(chosen, counted, strict=True):
            other = labels[image_of[row]] != labels[anchor]
            assert weight == pytest.approx(10 / others if other else 0.0)


def crd_by_hand(
    anchors: Tensor, memory: Tensor, index: Sequence[int], labels: Sequence[int], draws: int, tau: float
) -> float:
    """Return NCE of anchors (B, D) against a memory in the order of the images, all drawn evenly."""
    number = len(labels)
    rows, weights = [], []
    for anchor, image in zip(anchors.tolist(), index, strict=True):
        others = [other for other in range(number) if labels[other] != labels[image]]
        scores = [
            sum(a * m for a, m in zip(anchor, memory[place].tolist(), strict=True)) / tau
            for place in (image, *others)
        ]
        rows.append(scores)
        weights.append([draws / len(others)] * len(others))
    total = sum(
        math.exp(row[0]) + sum(w * math.exp(s) for w, s in zip(counted, row[1:], strict=True))
        for row, counted in zip(rows, weights, strict=True)
    )
    z = number * total / (len(rows) * (1 + draws))
    return nce_by_hand([[s - math.log(z) for s in row] for row in rows], weights, draws / number)


def test_crd_by_hand() -> None:
    labels = [2, 0, 1, 1, 0, 2, 0, 1]
    given = replace(networks(), labels=torch.tensor(labels))
    distiller = prepared("crd", given=given, negatives=20, temperature=0.5, weight=0.3, width=4)
    student, teacher = outputs(MAP, count=3), outputs(WIDE, count=3, seed=1)
    step = replace(batch([0, 0, 0]), index=torch.tensor([6, 2, 5]))
    found = distiller.losses(student, teacher, step)
    memories = [distiller.teacher_memory.weight, distiller.student_memory.weight]
    embeddings = [distiller.student_embedding(student.pooled), distiller.teacher_embedding(teacher.pooled)]
    for side, memory, embedded in zip(("student", "teacher"), memories, embeddings, strict=True):
        anchors = embedded / embedded.norm(dim=1, keepdim=True)
        by_image = memory[distiller._rows]
        expected = 0.3 * crd_by_hand(anchors.detach(), by_image, [6, 2, 5], labels, 20, 0.5)
        assert float(found[f"nce_{side}"].detach()) == pytest.approx(expected, rel=1e-4)


def test_drawn_negatives_give_the_mean_over_all_of_them_in_the_long_run() -> None:
    distiller = prepared("crd", negatives=11, temperature=0.5, weight=1.0)
    student, teacher = outputs(MAP), outputs(WIDE, seed=1)
    losses(distiller, student, teacher, [0, 1, 2] * 2)  # sets the constants
    often = [Outputs(each.logits, each.pooled.repeat(500, 1)) for each in (student, teacher)]
    step = replace(batch([0]), index=torch.arange(6).repeat(500))
    found = float(distiller.terms(*often, step)["nce_student"].detach())
    anchors = torch.nn.functional.normalize(distiller.student_embedding(student.pooled), dim=1)
    scores = anchors @ distiller.teacher_memory.weight.T / 0.5 - distiller.constants.log_z_student
    rows = distiller._rows[torch.arange(6)]
    weights = (distiller._labels[rows][:, None] != distiller._labels) * (11 / 8)
    log_p = torch.cat([scores.gather(1, rows[:, None]), scores], dim=1)
    expected = float(noise_contrastive_loss(log_p, weights, 11 / 12).detach())
    assert found == pytest.approx(expected, rel=0.01)


def test_the_first_batch_sets_the_constants_and_they_stay() -> None:
    distiller = prepared("crd", negatives=20)
    assert distiller.constants.log_z_student.isnan()
    losses(distiller, outputs(MAP), outputs(WIDE, seed=1), [0, 1, 2] * 2)
    first = [buffer.clone() for buffer in distiller.constants.buffers()]
    assert all(buffer.isfinite() for buffer in first)
    losses(distiller, outputs(MAP, seed=2), outputs(WIDE, seed=3), [0, 1, 2] * 2)
    assert all(torch.equal(a, b) for a, b in zip(distiller.constants.buffers(), first, strict=True))


def test_a_training_that_goes_on_has_the_same_memories_and_constants() -> None:
    distiller, again = prepared("crd", negatives=20), prepared("crd", negatives=20)
    losses(distiller, outputs(MAP), outputs(WIDE, seed=1), [0, 1, 2] * 2)
    distiller.after_step(nn.Identity(), nn.Identity(), False, False)
    with torch.no_grad():
        again.student_memory.weight.zero_()
    again.adapters().load_state_dict(copy.deepcopy(distiller.adapters().state_dict()))
    student, teacher = outputs(MAP, seed=2), outputs(WIDE, seed=3)
    found = [losses(each, student, teacher, [0, 1, 2] * 2) for each in (distiller, again)]
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_only_the_batch_is_remembered_half_old_and_half_new() -> None:
    labels = torch.tensor([2, 0, 1, 1, 0, 2, 0])
    distiller = prepared(
        "crd", given=replace(networks(), labels=labels), negatives=20, momentum=0.25, width=3
    )
    memories = {"student": distiller.student_memory.weight, "teacher": distiller.teacher_memory.weight}
    old = {side: memory[distiller._rows].tolist() for side, memory in memories.items()}
    student, teacher = outputs(MAP, count=2), outputs(WIDE, count=2, seed=1)
    distiller.losses(student, teacher, replace(batch([0, 0]), index=torch.tensor([4, 2])))
    assert all(memory[distiller._rows].tolist() == old[side] for side, memory in memories.items())
    distiller.after_step(nn.Identity(), nn.Identity(), False, False)
    new = {
        "student": distiller.student_embedding(student.pooled).tolist(),
        "teacher": distiller.teacher_embedding(teacher.pooled).tolist(),
    }
    for side, memory in memories.items():
        expected = old[side]
        for place, embedded in zip([4, 2], new[side], strict=True):
            length = math.sqrt(sum(a * a for a in embedded))
            mixed = [0.25 * o + 0.75 * e / length for o, e in zip(expected[place], embedded, strict=True)]
            norm = math.sqrt(sum(a * a for a in mixed))
            expected[place] = [a / norm for a in mixed]
        torch.testing.assert_close(memory[distiller._rows], torch.tensor(expected))


def test_a_memory_of_the_opposite_direction_stays_finite() -> None:
    memory = unit_rows(4, 3)
    remember(memory, torch.tensor([1]), -memory[1:2].clone(), momentum=0.5)
    assert memory.isfinite().all()


def test_the_memories_are_unit_directions_that_do_not_train() -> None:
    distiller = prepared("crd", negatives=20)
    adapters = distiller.adapters()
    assert set(adapters) == {
        "student_embedding",
        "teacher_embedding",
        "constants",
        "student_memory",
        "teacher_memory",
    }
    for memory in (distiller.student_memory, distiller.teacher_memory):
        assert memory.weight.shape == (12, 128) and not memory.weight.requires_grad
        torch.testing.assert_close(memory.weight.norm(dim=1), torch.ones(12))
    assert not torch.equal(distiller.student_memory.weight, distiller.teacher_memory.weight)
    assert len(parameters(distiller)) == 4


def test_the_student_learns_from_its_own_anchor_alone() -> None:
    for negatives in (11, 20):
        distiller = prepared("crd", negatives=negatives)
        student = outputs(MAP)
        student.pooled.requires_grad_()
        terms = losses(distiller, student, outputs(WIDE, seed=1), [0, 1, 2] * 2)
        terms["nce_teacher"].backward()
        assert student.pooled.grad is None and distiller.student_embedding.weight.grad is None
        assert distiller.teacher_embedding.weight.grad.abs().sum() > 0
        terms["nce_student"].backward()
        assert student.pooled.grad.abs().sum() > 0


def test_training_pulls_an_image_to_its_own_memory() -> None:
    distiller = prepared("crd", negatives=20, width=16, momentum=0.0)
    student, teacher = outputs(MAP, count=12), outputs(WIDE, count=12, seed=1)
    found = []
    for _ in range(20):
        terms = losses(distiller, student, teacher, [0, 1, 2] * 4)
        loss = terms["nce_student"] + terms["nce_teacher"]
        found.append(float(loss.detach()))
        grads = torch.autograd.grad(loss, parameters(distiller))
        with torch.no_grad():
            for parameter, grad in zip(parameters(distiller), grads, strict=True):
                parameter -= 0.1 * grad
        distiller.after_step(nn.Identity(), nn.Identity(), False, False)
    assert found[-1] < 0.7 * found[0]


def test_crd_refuses_what_it_cannot_contrast() -> None:
    with pytest.raises(Refusal, match="teacher 'T' has no pooled feature"):
        check("crd", pair(teacher=NO_POOLED))
    check("crd", pair(FLAT, FLAT))
    with pytest.raises(UserError, match="all training images are of one class"):
        prepared("crd", given=replace(networks(), labels=torch.ones(5, dtype=torch.long)))


# reviewkd


def pooled_by_hand(maps: np.ndarray, side: int) -> np.ndarray:
    step = maps.shape[2] // side
    out = np.zeros((*maps.shape[:2], side, side))
    for row in range(side):
        for column in range(side):
            block = maps[:, :, row * step : (row + 1) * step, column * step : (column + 1) * step]
            out[:, :, row, column] = block.mean((2, 3))
    return out


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


# simkd


def real_pair(student: str = "cnn_4", teacher: str = "cnn_2") -> tuple[Pair, Networks, dict[str, Any]]:
    """Return a pair of models for 8×8 images with their own heads and taps."""
    from kdbench.models import feature_shapes

    torch.manual_seed(0)
    shape = (1, 8, 8)
    models = {
        "student": build_model(student, input_shape=shape, num_classes=3),
        "teacher": build_model(teacher, input_shape=shape, num_classes=3),
    }
    taps = {role: find_taps(model, shape) for role, model in models.items()}
    shapes = {role: feature_shapes(model, taps[role], shape) for role, model in models.items()}
    heads = {role: model.get_submodule(taps[role].pooled) for role, model in models.items()}
    given = replace(networks(models["student"], models["teacher"]), heads=heads, taps=taps)
    return Pair(teacher, student, shapes["teacher"], shapes["student"], 3, False), given, taps


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
    measured = build_model(name, input_shape=(1, 8, 8), num_classes=3, args=args)
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


# cat_kd


def test_class_activation_maps_by_hand() -> None:
    stage, weight = outputs(MAP).stages[0], torch.randn(3, 2)
    found = activation_maps(stage, weight, 2)
    maps = np.zeros((6, 3, 4, 4))
    for i in range(6):
        for k in range(3):
            for c in range(2):
                maps[i, k] += float(weight[k, c]) * stage[i, c].numpy()
    np.testing.assert_allclose(found.numpy(), pooled_by_hand(maps, 2).reshape(6, 3, 4), rtol=1e-4, atol=1e-6)


def test_the_mean_of_a_class_activation_map_is_the_logit_without_its_bias() -> None:
    _, given, taps = real_pair()
    given.teacher.eval()
    found = FeatureReader(given.teacher, taps["teacher"], frozenset({"stages"}))(torch.randn(4, 1, 8, 8))
    head = given.teacher.head
    maps = activation_maps(found.stages[-1], head.weight, 2)
    torch.testing.assert_close(maps.mean(2) + head.bias, found.logits)


@pytest.mark.parametrize("normalised", [True, False])
def test_cat_kd_by_hand(normalised: bool) -> None:
    given = networks()
    distiller = prepared("cat_kd", given=given, weight=7.0, normalised=normalised)
    student, teacher = outputs(MAP), outputs(WIDE, seed=1)
    found = float(losses(distiller, student, teacher, [0, 1, 2] * 2)["maps"].detach())
    total = 0.0
    for i in range(6):
        for k in range(3):
            both = []
            for stage, head in ((student.stages[1], "student"), (teacher.stages[1], "teacher")):
                channels = given.heads[head].weight[k].tolist()
                pooled = pooled_by_hand(stage.numpy(), 2)[i].reshape(len(channels), 4)
                map_ = [sum(w * float(f[x]) for w, f in zip(channels, pooled, strict=True)) for x in range(4)]
                length = math.sqrt(sum(value**2 for value in map_)) if normalised else 1.0
                both.append([value / length for value in map_])
            total += sum((a - b) ** 2 for a, b in zip(*both, strict=True))
    assert found == pytest.approx(7 * total / (6 * 3 * 4), rel=1e-4)


def test_the_scale_of_maps_counts_only_without_normalisation() -> None:
    maps = torch.randn(4, 3, 4, dtype=torch.float64)
    assert float(attention_transfer(5 * maps, maps, True)) == pytest.approx(0, abs=1e-12)
    assert float(attention_transfer(5 * maps, maps, False)) == pytest.approx(16 * float((maps**2).mean()))
    # opposite directions of norm 1: ‖2A‖² = 4 over 4 positions
    assert float(attention_transfer(-maps, maps, True)) == pytest.approx(1)


def test_cat_kd_is_zero_between_identical_models() -> None:
    of = pair(MAP, MAP)
    given = networks(of=of)
    given = replace(given, heads={"student": given.heads["student"], "teacher": given.heads["student"]})
    found = losses(prepared("cat_kd", of, given), outputs(MAP), outputs(MAP), [0, 1, 2] * 2)
    assert float(found["maps"].detach()) == pytest.approx(0, abs=1e-10)


def test_cat_kd_trains_the_students_linear_layer() -> None:
    given = networks()
    distiller = prepared("cat_kd", given=given)
    student = outputs(MAP)
    first, last = student.stages
    last.requires_grad_()
    losses(distiller, student, outputs(WIDE, seed=1), [0, 1, 2] * 2)["maps"].backward()
    assert given.heads["student"].weight.grad.abs().sum() > 0 and given.heads["student"].bias.grad is None
    assert last.grad.abs().sum() > 0 and first.grad is None
    assert len(distiller.adapters()) == 0


def test_cat_kd_refuses_maps_that_are_not_classified_and_lone_positions() -> None:
    for of, role in ((pair(teacher=FINAL), "teacher 'T'"), (pair(student=FINAL), "student 'S'")):
        with pytest.raises(Refusal, match=f"{role} does not classify the channels of its last stage"):
            check("cat_kd", of)
    with pytest.raises(Refusal, match="of one position, where there is nothing to compare"):
        check("cat_kd", pair(), size=1)
    with pytest.raises(Refusal, match="maps of student 'S' are of one position"):
        check("cat_kd", pair(student=FeatureShapes((3,), (5,), ((2, 4, 4), (5, 1, 1)))))
    check("cat_kd", pair(), size=1, normalised=False)
