"""ShuffleNetV2 of size 1 for small images: ``ShuffleV2``.

Ma et al. 2018: a unit passes half of its channels on as they are and convolves the other half; the first
unit of each stage halves the map and convolves all channels in two branches. Both end by interleaving
the channels of the halves. This is the student of the tables of the distillation literature (CRD,
ICLR 2020): a 1×1 stem of 24 channels without pooling, stages of 116, 232 and 464 channels with 4, 8 and 4
units, and a last 1×1 convolution to 1024.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kdbench.models.registry import family
from kdbench.models.shapes import Shape

STEM = 24
# (channels, units) of each stage
STAGES = ((116, 4), (232, 8), (464, 4))
LAST = 1024


def _pointwise(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


def _filter(channels: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
    ]


class SplitUnit(nn.Module):
    """Two branches side by side, whose channels are interleaved at the end."""

    def __init__(self, inputs: int, outputs: int, halve: bool) -> None:
        """Build the branches; without halving, ``inputs`` equals ``outputs`` and one branch is empty."""
        super().__init__()
        half = outputs // 2
        stride = 2 if halve else 1
        self.halve = halve
        self.first = nn.Sequential(*_filter(inputs, stride), *_pointwise(inputs, half)) if halve else None
        self.second = nn.Sequential(
            *_pointwise(inputs if halve else half, half), *_filter(half, stride), *_pointwise(half, half)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H, W), or to half of H and W."""
        if self.first is None:
            kept, taken = x.chunk(2, dim=1)
            halves = (kept, self.second(taken))
        else:
            halves = (self.first(x), self.second(x))
        return torch.stack(halves, dim=2).flatten(1, 2)


class ShuffleNetV2(nn.Module):
    """ShuffleNetV2 of size 1 for small images."""

    def __init__(self, channels: int, classes: int) -> None:
        """Build stem, stages and the last 1×1 convolution."""
        super().__init__()
        self.stem = nn.Sequential(*_pointwise(channels, STEM))
        self.stages = nn.Sequential()
        inputs = STEM
        for width, units in STAGES:
            chain = [SplitUnit(inputs, width, halve=True)]
            chain += [SplitUnit(width, width, halve=False) for _ in range(units - 1)]
            self.stages.append(nn.Sequential(*chain))
            inputs = width
        self.last = nn.Sequential(*_pointwise(inputs, LAST))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(LAST, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to logits (B, classes)."""
        x = self.last(self.stages(self.stem(x)))
        return self.head(self.pool(x).flatten(1))


@family(
    "shufflenet_v2",
    pattern=r"ShuffleV2",
    examples=("ShuffleV2",),
    summary="channels split in halves, of which one is convolved, for small images",
    source="Ma et al. 2018; CIFAR variant of the CRD tables (ICLR 2020)",
)
def build(*, input_shape: Shape, num_classes: int) -> ShuffleNetV2:
    """Build the ShuffleNetV2 of the distillation tables."""
    return ShuffleNetV2(input_shape[0], num_classes)
