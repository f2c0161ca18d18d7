"""What every target holds, and what is done with labels that none of them takes."""

from __future__ import annotations

import doctest
import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from kdbench.errors import UserError
from kdbench.metrics import catalogue
from kdbench.metrics.tensors import KNOWN
from kdbench.targets import ROLES, TARGETS, Target, find_target, target, target_of
from tests.registries import reopen

NAMES = list(TARGETS.all())
COUNT, CLASSES = 30, 4


def labels_of(name: str, seed: int = 0) -> np.ndarray:
    """Labels as a user's function gives them."""
    random = np.random.default_rng(seed)
    drawn = {
        "single_label": lambda: random.integers(CLASSES, size=COUNT),
        "multi_label": lambda: random.integers(2, size=(COUNT, CLASSES)),
    }
    return drawn[name]()


def tensors_of(name: str, seed: int = 0, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (scale * torch.randn(COUNT, CLASSES, generator=generator) for _ in range(2))
    found = find_target(name)
    return student, teacher, torch.from_numpy(found.stored("here", labels_of(name, seed)))


@pytest.mark.parametrize("name", NAMES)
def test_a_target_takes_its_own_labels_and_keeps_their_values(name: str) -> None:
    labels = labels_of(name)
    found = target_of(labels)
    assert found is not None and found.name == name
    stored = found.stored("here", labels)
    assert np.array_equal(stored, labels) and stored is not labels
    assert found.num_classes("of a test", [stored]) == CLASSES
    assert list(found.faults("here", "label", stored, CLASSES)) == []
    assert len(list(found.faults("here", "label", stored, CLASSES - 1))) > 0
    codes, names = found.strata(stored, list("abcd"))
    assert codes.shape == (COUNT,) and set(codes) <= set(range(len(names)))


@pytest.mark.parametrize("name", NAMES)
def test_the_headline_leads_the_metrics_of_a_target(name: str) -> None:
    found = find_target(name)
    columns = catalogue(found)
    assert next(iter(columns)) == found.headline
    assert columns[found.headline].direction == "higher"
    assert set(found.figures) <= columns.keys()
    assert columns[found.loss_name].unit == "nats"
    assert set(found.tensors) <= set(ROLES) and {"logits", "labels", "teacher_logits"} <= set(found.tensors)
    assert set(found.tensors.values()) <= KNOWN.keys()


@pytest.mark.parametrize("name", NAMES)
def test_the_tally_of_batches_is_the_headline_metric(name: str) -> None:
    from kdbench.metrics import score

    found = find_target(name)
    logits, _, labels = tensors_of(name)
    tally = found.tally("cpu")
    for part in torch.arange(COUNT).split(7):
        tally.add(logits[part], labels[part])
    given = {found.tensors["logits"]: logits, found.tensors["labels"]: labels}
    values, _ = score(given, target=found)
    assert tally.value() == pytest.approx(values[found.headline], rel=1e-12)
    mean = found.loss(logits.double(), labels)
    assert values[found.loss_name] == pytest.approx(mean.item(), rel=1e-12)
    assert found.loss(logits, labels, reduction="sum").item() == pytest.approx(COUNT * mean.item(), rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_losses_are_finite_and_the_soft_one_zero_between_equals_alone(name: str, scale: float) -> None:
    found = find_target(name)
    student, teacher, labels = tensors_of(name, scale=scale)
    student.requires_grad_()
    loss = found.loss(student, labels) + found.soft_loss(student, teacher, 4.0)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.isfinite() and gradient.isfinite().all()
    assert found.soft_loss(student, teacher, 4.0) > 1e-3
    assert found.soft_loss(teacher, teacher, 4.0).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_factor_of_the_soft_loss_keeps_its_size_at_any_temperature(name: str) -> None:
    found = find_target(name)
    student, teacher, _ = tensors_of(name)
    warm, hot = (found.soft_loss(student.double(), teacher.double(), t).item() for t in (1e3, 1e4))
    assert hot == pytest.approx(warm, rel=1e-2) and hot > 0


@pytest.mark.parametrize("name", NAMES)
def test_codes_are_equal_where_labels_and_predictions_are(name: str) -> None:
    found = find_target(name)
    logits, teacher, labels = tensors_of(name)
    truth, predicted = found.codes(logits, labels)
    _, taught = found.codes(teacher, labels)
    assert truth.shape == predicted.shape == (COUNT,)

    def same(first: Tensor, second: Tensor) -> list[bool]:
        return (first == second).reshape(COUNT, -1).all(1).tolist()

    def decided(z: Tensor) -> Tensor:
        return z.argmax(1) if labels.ndim == 1 else z > 0

    assert (truth == predicted).tolist() == same(labels, decided(logits))
    assert (taught == predicted).tolist() == same(decided(teacher), decided(logits))
    assert 0 < (truth == predicted).sum() < COUNT


@pytest.mark.parametrize("name", NAMES)
def test_chance_is_about_the_headline_of_noise(name: str) -> None:
    found = find_target(name)
    labels = torch.from_numpy(np.concatenate([labels_of(name, seed) for seed in range(200)]))
    logits = torch.randn(len(labels), CLASSES, generator=torch.Generator().manual_seed(1))
    tally = found.tally("cpu")
    tally.add(logits, labels)
    assert tally.value() == pytest.approx(found.chance(labels, CLASSES), abs=0.03)


@pytest.mark.parametrize(
    "labels", [np.zeros((3, 2)), np.zeros(3), np.zeros((3, 2, 2), dtype=int), np.array(1)]
)
def test_labels_of_no_target(labels: np.ndarray) -> None:
    assert target_of(labels) is None


def test_an_unknown_target_gets_the_nearest_right_name() -> None:
    with pytest.raises(UserError, match=r"unknown target 'multilabel'\. Did you mean 'multi_label'\?"):
        find_target("multilabel")


def test_a_target_that_lacks_a_method_is_refused_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    reopen(TARGETS, monkeypatch)
    with pytest.raises(
        UserError, match=r"target 'half' \(test_targets\.py:\d+\) lacks the method chance\(\)"
    ):

        @target("half")
        class Half(Target):
            pass


def test_targets_are_read_without_torch(tmp_path: Path) -> None:
    import subprocess

    code = "import sys, kdbench.targets as t; t.TARGETS.all(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_examples_of_docstrings_are_true() -> None:
    assert doctest.testmod(importlib.import_module("kdbench.targets.multi_label")).failed == 0
