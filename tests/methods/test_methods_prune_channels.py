"""Structured pruning: channels are gone, what is left computes what it did, and nothing is silently kept."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch
from torch import nn

from kdbench.efficiency.counts import count_multiply_adds
from kdbench.errors import UserError
from kdbench.inputs import InputSpec
from kdbench.methods.base import Refusal
from kdbench.methods.compressor import COMPRESSORS
from kdbench.models import build_model
from kdbench.models.index import Sketch
from kdbench.models.shapes import FeatureShapes

pytest.importorskip("torch_pruning")
SHAPE = (3, 16, 16)


def model_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    return build_model(name, inputs=InputSpec.image(SHAPE), num_classes=10)


def pruned(model: nn.Module, x: torch.Tensor | None = None, **hyper: Any) -> tuple[nn.Module, dict[str, Any]]:
    entry = COMPRESSORS.find("prune_channels")
    maker = entry.step(entry.parameters(**hyper))
    x = torch.randn(4, *SHAPE) if x is None else x
    decision = json.loads(json.dumps(maker.decide(copy.deepcopy(model), iter([x]))))
    return maker.apply(copy.deepcopy(model), decision).eval(), decision


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", ["mlp_32", "cnn_8", "resnet8", "wrn_16_1", "MobileNetV2"])
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_what_is_pruned_is_the_network_of_its_own_width(name: str, scope: str) -> None:
    model = model_of(name)
    small, decision = pruned(model, scope=scope)
    assert count(small) < 0.6 * count(model)
    assert small(torch.randn(2, *SHAPE)).shape == (2, 10)
    # A network rebuilt from the decision takes the weights, whatever its own were.
    torch.manual_seed(9)
    entry = COMPRESSORS.find("prune_channels")
    again = entry.step(entry.parameters()).apply(
        build_model(name, inputs=InputSpec.image(SHAPE), num_classes=10), decision
    )
    again.load_state_dict(small.state_dict())
    x = torch.randn(2, *SHAPE)
    assert torch.equal(again.eval()(x), small(x))


def test_half_of_the_channels_of_a_plain_network_is_the_network_of_half_the_width() -> None:
    small, _ = pruned(model_of("cnn_8"), ratio=0.5)
    half = model_of("cnn_4")
    assert {name: value.shape for name, value in small.state_dict().items()} == {
        name: value.shape for name, value in half.state_dict().items()
    }
    assert count_multiply_adds(small, InputSpec.image(SHAPE)) == count_multiply_adds(
        half, InputSpec.image(SHAPE)
    )


def test_the_channels_of_the_smallest_norm_go() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)
    )
    with torch.no_grad():
        for weights in (model[0].weight, model[0].bias, model[4].weight.T):
            weights[torch.tensor([1, 4, 6])] *= 1e-3
    small, decision = pruned(model, ratio=3 / 8)
    assert decision["channels"] == [["0", True, [1, 4, 6]]]
    kept = torch.tensor([0, 2, 3, 5, 7])
    assert torch.equal(small[0].weight, model[0].weight[kept])
    assert torch.equal(small[4].weight, model[4].weight[:, kept])
    # They said next to nothing.
    x = torch.randn(4, *SHAPE)
    torch.testing.assert_close(small(x), model.eval()(x), atol=1e-3, rtol=0)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.head = nn.Linear(16, 48), nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x.flatten(2).mean(1)[:, None, :16]).chunk(3, -1)
        return self.head((q @ k.transpose(1, 2)).softmax(-1) @ v)[:, 0]


def tied() -> nn.Module:
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(768, 16), nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 10)
    )
    model[3].weight = model[2].weight
    return model


@pytest.mark.parametrize(
    ("model", "hyper", "problem"),
    [
        ("gru_8", {}, "'gru': channels of recurrent layers cannot be removed"),
        ("vit_32_2", {}, "multiplies activations with one another"),
        (Attention, {}, r"multiplies activations with one another \(matmul\)"),
        (tied, {}, "'3' and '2' share weights"),
        ("cnn_4", {"ratio": 0.9}, r"ratio 0\.9 would empty 'stages\.0\.0' of 4 channels"),
        ("ShuffleV1", {}, "Torch-Pruning cannot follow the channels of this network"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(768, 10)), {}, "with ratio 0.5 no channel went"),
        (lambda: nn.Sequential(nn.Flatten(), nn.ReLU()), {}, "has no linear or convolutional layer"),
    ],
)
def test_what_cannot_be_pruned_is_told_and_not_left_as_it_is(
    model: Any, hyper: dict[str, float], problem: str
) -> None:
    with pytest.raises(UserError, match=problem):
        pruned(model_of(model) if isinstance(model, str) else model(), **hyper)


def sketch(kinds: set[str], channels: int = 64) -> Sketch:
    made = Sketch.__new__(Sketch)
    object.__setattr__(made, "kinds", frozenset(kinds))
    object.__setattr__(made, "shapes", FeatureShapes((10,), (64,), ((channels, 8, 8),)))
    return made


@pytest.mark.parametrize(
    ("kinds", "channels", "problem"),
    [
        ({"RNNBase", "Linear"}, 64, "recurrent"),
        ({"MultiheadAttention"}, 64, "attention"),
        ({"ReLU"}, 64, "no linear or convolutional layer"),
        ({"Linear"}, 9, r"ratio 0\.9 would empty a stage of 9 channels"),
    ],
)
def test_the_plan_refuses_what_is_known_before(kinds: set[str], channels: int, problem: str) -> None:
    entry = COMPRESSORS.find("prune_channels")
    with pytest.raises(Refusal, match=problem):
        entry.step.check(entry.parameters(ratio=0.9), sketch(kinds, channels))


def test_without_the_library_it_says_which_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    entry = COMPRESSORS.find("prune_channels")
    with pytest.raises(UserError, match=r"pip install 'kdbench\[prune\]'"):
        entry.step.check(entry.parameters(), sketch({"Linear"}))
