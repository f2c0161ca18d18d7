"""Contrast of images in an embedding: noise, memories and negatives."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from kdbench.errors import UserError
from kdbench.methods import Outputs, Refusal
from kdbench.methods.distillers import crd
from kdbench.methods.distillers.crd import draw_outside, noise_contrastive_loss, remember, scores_at
from tests.methods.given import (
    FLAT,
    MAP,
    NO_POOLED,
    WIDE,
    batch,
    check,
    losses,
    networks,
    outputs,
    pair,
    parameters,
    prepared,
)


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
