"""Prediction with pooled features: the same logits, the head's own input, evenly spaced rows."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kdbench.data import Batches
from kdbench.data.dataset import Split
from kdbench.errors import UserError
from kdbench.inputs import InputSpec
from kdbench.models import build_model, feature_shapes, find_taps
from kdbench.models.shapes import Taps
from kdbench.training import evaluation
from kdbench.training.evaluation import predict, predict_with_features

GREY = InputSpec.image((1, 8, 8))


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> Batches:
    """Twenty-three images in batches of five, so that steps go over the edges of batches."""
    monkeypatch.setattr(evaluation, "BATCH", 5)
    images = torch.randint(256, (23, 8, 8, 1), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    return Batches(Split(images, torch.zeros(23).long()), (0.5,), (0.5,), device=torch.device("cpu"))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return build_model("cnn_4", inputs=GREY, num_classes=3)


def test_the_head_of_the_features_gives_the_logits(model: nn.Module, batches: Batches) -> None:
    taps = find_taps(model, GREY)
    logits, pooled = predict_with_features(model, taps, batches)
    assert torch.equal(logits, predict(model, batches))
    assert pooled is not None and pooled.dtype == torch.float32 and len(pooled) == 23
    head = dict(model.named_modules())[taps.pooled]
    assert torch.allclose(head(pooled), logits, atol=1e-6)
    assert not any(module._forward_pre_hooks for module in model.modules()), "the hooks are taken away"


@pytest.mark.parametrize(("most", "step"), [(23, 1), (22, 2), (12, 2), (8, 3), (4, 6), (1, 23)])
def test_features_of_a_large_split_are_evenly_spaced(
    most: int, step: int, model: nn.Module, batches: Batches, monkeypatch: pytest.MonkeyPatch
) -> None:
    taps = find_taps(model, GREY)
    _, whole = predict_with_features(model, taps, batches)
    monkeypatch.setattr(evaluation, "MAX_POOLED", most)
    logits, pooled = predict_with_features(model, taps, batches)
    assert len(logits) == 23
    assert torch.equal(pooled, whole[::step]) and len(pooled) <= most


def test_a_model_without_a_pooled_tap_has_no_features(model: nn.Module, batches: Batches) -> None:
    logits, pooled = predict_with_features(model, Taps(), batches)
    assert pooled is None
    assert torch.equal(logits, predict(model, batches))


class OneByOne(nn.Module):
    """A network that takes the images of a batch one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 4, 3)
        self.head = nn.Linear(4 * 36, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.head(self.convolution(image[None]).flatten(1)) for image in x])


def test_features_that_have_not_a_row_an_example_are_none(batches: Batches) -> None:
    model = OneByOne()
    assert find_taps(model, GREY) == Taps()
    with pytest.raises(UserError, match=r"'head' has features of shape \(1, 144\) for 2 examples"):
        feature_shapes(model, Taps(pooled="head"), GREY)
    logits, pooled = predict_with_features(model, Taps(pooled="head"), batches)
    assert pooled is None
    assert torch.equal(logits, predict(model, batches))
