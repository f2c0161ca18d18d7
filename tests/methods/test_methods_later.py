"""What the later methods on features have in common: finite, trained, and refused where they cannot work."""

from __future__ import annotations

import pytest
import torch

from kdbench.methods import FeatureShapes, Refusal
from tests.methods.given import (
    FLAT,
    MAP,
    TOKENS,
    WIDE,
    as_seen,
    check,
    leaves,
    losses,
    networks,
    outputs,
    pair,
    parameters,
    prepared,
)

NAMES = ["crd", "reviewkd", "simkd", "cat_kd"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("features", ["random", "zero", "constant", "huge"])
def test_losses_and_gradients_are_finite(name: str, scale: float, features: str) -> None:
    of = as_seen(name, pair())
    distiller = prepared(name, of, ce=1.0, kd=1.0)
    student, teacher = outputs(of.student_shapes, scale=scale), outputs(WIDE, scale=scale, seed=1)
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
    of = as_seen(name, pair())
    given = networks(of=of)
    distiller = prepared(name, of, given)
    student, teacher = outputs(of.student_shapes), outputs(WIDE, seed=1)
    inputs = leaves(student)
    torch.stack(list(losses(distiller, student, teacher, [0, 1, 2, 0, 1, 2]).values())).sum().backward()
    assert any(feature.grad is not None and feature.grad.abs().sum() > 0 for feature in inputs)
    assert given.heads["teacher"].weight.grad is None and given.heads["teacher"].bias.grad is None
    assert all(parameter.grad is None for parameter in given.teacher.parameters())


@pytest.mark.parametrize("name", ["crd", "reviewkd"])
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
        of = as_seen(name, of)
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
