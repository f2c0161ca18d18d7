"""Class activation maps: their formula, their normalisation and their refusals."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from kdbench.methods import FeatureShapes, Refusal
from kdbench.methods.distillers.cat_kd import activation_maps, attention_transfer
from kdbench.models import FeatureReader
from tests.methods.given import (
    FINAL,
    MAP,
    WIDE,
    check,
    losses,
    networks,
    outputs,
    pair,
    pooled_by_hand,
    prepared,
    real_pair,
)


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
