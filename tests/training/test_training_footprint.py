"""What a model in training takes: counted by hand on models small enough for that."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kdbench.methods import Pair
from kdbench.methods.distillers.scratch import Scratch
from kdbench.models import Taps
from kdbench.models.shapes import FeatureShapes
from kdbench.runner.assembly import Room
from kdbench.suite.schema import Recipe
from kdbench.training.footprint import held_bytes, step_bytes
from kdbench.training.trainee import Trainee

FLOAT = 4
SHAPES = FeatureShapes((2,), None, ())


def trainee(model: nn.Module, recipe: Recipe, method: type[Scratch] = Scratch) -> Trainee:
    pair = Pair("t", "s", SHAPES, SHAPES, 2, same_architecture=False)
    scratch = method(method.Parameters(), pair)
    return Trainee("a", model, Taps(), scratch, recipe, torch.device("cpu"), "fp32")


@pytest.mark.parametrize(("optimizer", "moments"), [("sgd", 1), ("adam", 2), ("adamw", 2)])
def test_held_bytes_are_weights_gradients_moments_and_the_best_copy(optimizer: str, moments: int) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    weights = (3 * 4 + 4) + (4 + 4) + (4 * 2 + 2)
    buffers = (4 + 4) * FLOAT + 8  # mean and variance; the number of batches is one int64
    expected = 2 * (weights * FLOAT + buffers) + (1 + moments) * weights * FLOAT
    assert held_bytes(trainee(model, Recipe(optimizer=optimizer))) == expected


def test_a_weight_that_does_not_train_needs_no_gradient() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    expected = 2 * (16 + 10) * FLOAT + 2 * 10 * FLOAT
    assert held_bytes(trainee(model, Recipe())) == expected


def test_step_bytes_are_what_autograd_saves() -> None:
    # A linear layer saves its input; the ReLU saves its output, which is the next one's input.
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    assert step_bytes(model, torch.randn(5, 3)) == (5 * 3 + 5 * 4) * FLOAT


def test_measuring_leaves_the_model_and_the_random_numbers_as_they_were() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout()).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    step_bytes(model, torch.ones(5, 3))
    assert torch.equal(torch.rand(1), expected)
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def change() -> None:
    torch.set_num_threads(torch.get_num_threads() + 1)
    torch.set_default_dtype(torch.float64)
    np.random.seed(0)


class Changing(nn.Linear):
    """A network that changes what all models share."""

    def forward(self, x: Tensor) -> Tensor:
        change()
        return super().forward(x)


class ChangingMethod(Scratch):
    """A method that does, when it is asked for its parts."""

    def adapters(self) -> nn.Module:
        change()
        return super().adapters()


def shared() -> tuple[object, ...]:
    return torch.get_num_threads(), torch.get_default_dtype(), np.random.get_state()[1].tolist()


def test_what_a_network_or_a_method_changes_reaches_no_other_student() -> None:
    np.random.seed(1)
    before = shared()
    step_bytes(Changing(3, 2), torch.ones(5, 3))
    assert shared() == before
    trainee(nn.Linear(3, 2), Recipe(), ChangingMethod)
    assert shared()[:2] == before[:2]


def test_students_add_up_and_the_largest_step_counts() -> None:
    room = Room(100)
    assert room.admits(30, 20)
    assert room.admits(30, 40)  # 60 held and a step of 40
    assert room.taken == 100
    assert not room.admits(1, 0)
    assert room.taken == 100


def test_one_student_is_always_trained_and_without_a_budget_all_are() -> None:
    assert Room(10).admits(50, 50)
    room = Room(None)
    assert all(room.admits(10**12, 10**12) for _ in range(3))
