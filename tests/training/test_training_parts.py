"""Schedules, seeds, precision, batch-norm statistics and evaluation."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, log_loss
from torch import nn

from kdbench.data import Batches
from kdbench.data.dataset import Split
from kdbench.suite.schema import Recipe
from kdbench.targets import find_target
from kdbench.training.evaluation import headline_and_loss, predict, recompute_batch_norm
from kdbench.training.precision import resolve
from kdbench.training.schedule import factor, make_optimizer
from kdbench.training.seeds import derive, generator

FRACTIONS = st.floats(min_value=0, max_value=1, exclude_max=True)


def test_step_schedule_matches_torchs_own() -> None:
    recipe = Recipe(epochs=240, lr=0.05, schedule="step", milestones=(150, 180, 210))
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=recipe.lr)
    theirs = torch.optim.lr_scheduler.MultiStepLR(optimizer, [150, 180, 210], gamma=0.1)
    for epoch in range(240):
        assert recipe.lr * factor(recipe, epoch / 240) == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()


def test_one_cycle_matches_torchs_own() -> None:
    recipe = Recipe(epochs=1, lr=0.4, schedule="one_cycle")
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    steps = 1000
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.4, total_steps=steps + 1)
    for step in range(steps):
        # torch counts the rise to the step before 30 %, which differs by a step of the cosine at most
        assert recipe.lr * factor(recipe, step / steps) == pytest.approx(theirs.get_last_lr()[0], abs=2e-3)
        optimizer.step()
        theirs.step()


@given(FRACTIONS, st.sampled_from(["constant", "cosine", "one_cycle"]))
def test_factors_stay_between_zero_and_one(progress: float, schedule: str) -> None:
    recipe = Recipe(epochs=10, schedule=schedule, warmup=0.1)  # type: ignore[arg-type]
    assert 0 <= factor(recipe, progress) <= 1


def test_cosine_with_warmup_by_hand() -> None:
    recipe = Recipe(epochs=10, schedule="cosine", warmup=0.2)
    assert factor(recipe, 0.1) == pytest.approx(0.5)
    assert factor(recipe, 0.2) == pytest.approx(1.0)
    assert factor(recipe, 0.6) == pytest.approx(0.5)
    assert factor(recipe, 1.0) == pytest.approx(0.0)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_optimisers_carry_the_recipe(name: str) -> None:
    recipe = Recipe(optimizer=name, lr=0.03, weight_decay=0.002)  # type: ignore[arg-type]
    optimizer = make_optimizer(recipe, [nn.Parameter(torch.zeros(2))])
    assert type(optimizer).__name__.lower() == name
    assert optimizer.defaults["lr"] == 0.03 and optimizer.defaults["weight_decay"] == 0.002


def test_seeds_follow_their_purpose() -> None:
    assert derive("a", 1) == derive("a", 1)
    assert len({derive("a", 1), derive("a", 2), derive("b", 1), derive("a", 1, 0)}) == 4
    assert torch.equal(
        torch.randperm(9, generator=generator("x")), torch.randperm(9, generator=generator("x"))
    )
    assert 0 <= derive("a") < 2**63


def test_precision_is_taken_as_asked_for() -> None:
    cpu = torch.device("cpu")
    assert resolve("fp32", cpu) == "fp32" and resolve("bf16", cpu) == "bf16"
    assert resolve("auto", cpu) in ("fp32", "bf16")


def split(count: int = 700) -> Split:
    generator_ = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 4, 4, 1), generator=generator_, dtype=torch.uint8)
    return Split(images, torch.randint(0, 3, (count,), generator=generator_))


def test_evaluation_agrees_with_scikit_learn_over_ragged_batches() -> None:
    data = Batches(split(), (0.5,), (0.3,))
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.Dropout(0.5))
    logits = predict(model, data)
    probabilities = logits.softmax(1).detach().numpy()
    labels = split().labels.numpy()
    top1, nll = headline_and_loss(model, data, find_target("single_label"), 3)
    assert logits.shape == (700, 3) and model.training
    assert top1 == pytest.approx(accuracy_score(labels, probabilities.argmax(1)))
    assert nll == pytest.approx(log_loss(labels, probabilities), rel=1e-5)


def test_recomputed_statistics_are_the_average_over_the_split() -> None:
    data = Batches(split(512), (0.5,), (0.3,))
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(16, 3)).eval()
    recompute_batch_norm(model, data)
    x = torch.cat([x for x, _, _ in data.ordered(512)])
    assert float(model[0].running_mean) == pytest.approx(float(x.mean()), abs=1e-6)
    assert float(model[0].running_var) == pytest.approx(float(x.var()), rel=1e-5)
    assert model[0].momentum == 0.1 and not model.training
    assert math.isfinite(headline_and_loss(model, data, find_target("single_label"), 3)[1])
