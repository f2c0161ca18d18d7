"""Batch-norm folded into convolutions: the same values, and no folding where it would change them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from kdbench.inputs import InputSpec
from kdbench.models import FeatureReader, build_model, find_taps
from kdbench.models.folding import folded

SHAPE = (3, 32, 32)
INPUTS = InputSpec.image(SHAPE)


def settled(model: nn.Module) -> nn.Module:
    """Give every batch-norm statistics and weights of its own, as training would."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.3, 3, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.2, generator=generator)
    return model.eval()


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def images(count: int = 4) -> Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("resnet8", 9, 0),
        ("vgg8", 5, 0),
        ("MobileNetV2", 53, 0),
        ("ShuffleV2", 56, 0),
        # A pre-activation block first normalises a sum of maps; the first one's input is its shortcut too.
        ("wrn_16_1", 13, 7),
        ("vit_64_4", 0, 0),
        ("mlp_16", 0, 0),
    ],
)
def test_folding_keeps_logits_and_features(name: str, before: int, after: int) -> None:
    torch.manual_seed(0)
    model = settled(build_model(name, inputs=INPUTS, num_classes=10))
    taps = find_taps(model, INPUTS)
    other = folded(model, images(), untouched=taps.stages)
    assert (norms(model), norms(other)) == (before, after)
    needs = frozenset({"logits", "pooled", "stages"})
    with torch.no_grad():
        expected = FeatureReader(model, taps, needs)(images(6))
        found = FeatureReader(other, taps, needs)(images(6))
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-4, atol=1e-5)
    for mine, theirs in zip(found.stages, expected.stages, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_folding_by_hand() -> None:
    convolution, norm = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, eps=0.0)
    nn.init.constant_(convolution.weight, 2.0)
    nn.init.constant_(convolution.bias, 1.0)
    norm.running_mean.fill_(3.0)
    norm.running_var.fill_(4.0)
    nn.init.constant_(norm.weight, 5.0)
    nn.init.constant_(norm.bias, 7.0)
    model = nn.Sequential(convolution, norm, nn.Flatten())
    other = folded(model, torch.randn(2, 1, 3, 3))
    # (2x + 1 − 3)·5/2 + 7 = 5x + 2
    assert other[0].weight.item() == 5.0
    assert other[0].bias.item() == 2.0
    assert isinstance(other[1], nn.Identity)


def test_the_model_itself_is_left_as_it_was() -> None:
    model = settled(build_model("resnet8", inputs=INPUTS, num_classes=10)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    folded(model, images())
    assert model.training
    assert norms(model) == 9
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_named_convolution_stays() -> None:
    model = settled(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten()))
    assert folded(model, images(), untouched=["0"]) is model


class ReadTwice(nn.Module):
    """Its batch-norm takes the convolution's output, and so does the sum behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.convolution(x)
        return (self.norm(y) + y).flatten(1)


class Shared(nn.Module):
    """One convolution before two batch-norms."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.norms = nn.ModuleList([nn.BatchNorm2d(4), nn.BatchNorm2d(4)])

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([norm(self.convolution(x)) for norm in self.norms], 1).flatten(1)


@pytest.mark.parametrize("kind", [ReadTwice, Shared])
def test_what_is_read_elsewhere_is_not_folded(kind: type[nn.Module]) -> None:
    model = settled(kind())
    assert folded(model, images()) is model


def test_statistics_of_the_batch_are_not_folded() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten())
    assert folded(model.eval(), images()) is model
