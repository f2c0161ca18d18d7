"""Networks tried out: what the zoo is known for, and what is found of others."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdbench.errors import UserError
from kdbench.inputs import InputSpec
from kdbench.models import build_model, families
from kdbench.models.features import run_example
from kdbench.models.folding import folded
from kdbench.models.trial import Trial, try_out

SHAPE = (2, 8, 8)
INPUTS = InputSpec.image(SHAPE)


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4 * 16, 3)

    def forward(self, x: Tensor) -> Tensor:
        maps = F.max_pool2d(F.relu(self.norm(self.convolution(x))), 2)
        return self.head(maps.reshape(len(x), -1))


class Viewing(Base):
    """The textbook's way from maps to a vector, which channels_last memory does not allow."""

    def forward(self, x: Tensor) -> Tensor:
        maps = F.max_pool2d(F.relu(self.norm(self.convolution(x))), 2)
        return self.head(maps.view(maps.size(0), -1))


class FirstRelu(Base):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.relu(x, inplace=True))


class BehindTheCounter(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        if self.training:
            x.data.add_(1)
        return y


class Dropping(Base):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.dropout(x))


class Auxiliary(Base):
    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        y = super().forward(x)
        return (y, 2 * y) if self.training else y


class Narrow(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y[:, :2] if self.training else y


@pytest.mark.parametrize("name", [family.examples[0] for family in families().values()])
def test_networks_of_the_zoo_leave_their_input_alone_and_take_channels_last(name: str) -> None:
    model = build_model(name, inputs=InputSpec.image((3, 32, 32)), num_classes=10)
    assert try_out(model, InputSpec.image((3, 32, 32))) == Trial(evaluated=True)


def test_a_network_that_fails_in_channels_last_is_tried_in_contiguous_memory() -> None:
    trial = try_out(Viewing(), INPUTS)
    assert trial.memory_format == torch.contiguous_format and trial.failure is None
    assert "view size is not compatible" in (trial.without_channels_last or "")
    assert try_out(Base(), INPUTS) == Trial(evaluated=True)


@pytest.mark.parametrize("bf16", [False, True])
def test_a_network_that_ends_the_process_is_one_that_fails(bf16: bool) -> None:
    class Ending(Base):
        def forward(self, x: Tensor) -> Tensor:
            if torch.is_autocast_enabled("cpu") is bf16:
                raise SystemExit(0)
            return super().forward(x)

    trial = try_out(Ending(), INPUTS, bf16=True)
    reason = trial.in_bf16 if bf16 else trial.failure
    assert reason is not None and reason.startswith(
        "ProcessEnded: SystemExit(0) in test_models_trial.py, line"
    )
    if not bf16:
        with pytest.raises(
            UserError, match=r"it cannot take inputs of .*SystemExit\(0\) in test_models_trial.py"
        ):
            run_example(Ending(), INPUTS)


def test_folding_leaves_the_memory_format_as_it_is() -> None:
    model = Viewing().eval()
    images = torch.randn(4, *SHAPE)
    other = folded(model, images)
    assert other is not model and isinstance(other.norm, nn.Identity)
    with torch.no_grad():
        torch.testing.assert_close(other(images), model(images), rtol=1e-4, atol=1e-5)
    for memory_format in (torch.channels_last, torch.contiguous_format):
        base = Base().eval().to(memory_format=memory_format)
        weight = folded(base, images).convolution.weight
        assert weight.stride() == base.convolution.weight.stride()


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (FirstRelu, Trial(evaluated=True, changes_input=True)),
        (BehindTheCounter, Trial(evaluated=True, changes_input=True)),
        (Dropping, Trial(evaluated=True, repeats=False)),
        (
            Narrow,
            Trial(
                evaluated=True, failure="its logits have shape (2, 2) in training and (2, 3) in evaluation"
            ),
        ),
    ],
)
def test_what_is_found_of_a_network(network: type[nn.Module], expected: Trial) -> None:
    assert try_out(network(), INPUTS) == expected


def test_a_tuple_in_training_only_is_told() -> None:
    model = Auxiliary()
    model.register_forward_hook(lambda module, inputs, output: output[0] if module.training else None)
    trial = try_out(model, INPUTS)
    assert trial.failure is None and trial.in_training == "tuple of 2"
    (remark,) = trial.remarks()
    assert "auxiliary heads are not trained by a loss of their own" in remark


def test_a_trial_leaves_the_network_and_the_random_streams_as_they_were() -> None:
    model = Dropping()
    before = copy.deepcopy(model.state_dict())
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    try_out(model, INPUTS)
    assert torch.equal(torch.rand(3), expected)
    assert model.training and all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
