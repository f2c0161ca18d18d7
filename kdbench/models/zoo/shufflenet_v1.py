"""ShuffleNet for small images, with 3 groups: ``ShuffleV1``.

Zhang et al. 2018: residual blocks of grouped 1×1 convolutions around a filter by channel; after the first
1×1 convolution the channels are interleaved, so that groups exchange what they know. The first block of
each stage halves the map and appends its average-pooled input in place of adding it. This is the student
of the tables of the distillation literature (CRD, ICLR 2020): a 1×1 stem of 24 channels without
pooling, stages of 4, 8 and 4 blocks with 240, 480 and 960 channels, inner width a quarter of what the
convolutions of a block put out, and a ReLU after the filter that the paper leaves out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kdbench.models.registry import family
from kdbench.models.shapes import Shape

GROUPS = 3
STEM = 24
# (channels, blocks) of each stage
STAGES = ((240, 4), (480, 8), (960, 4))


class Interleave(nn.Module):
    """Deal out the channels of each group in turn: the channel shuffle of the paper."""

    def __init__(self, groups: int) -> None:
        """Set the number of groups, which divides the number of channels."""
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, groups · n, H, W) to the same shape; channel g·n + i becomes channel i·groups + g."""
        return x.unflatten(1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)


class ShuffleUnit(nn.Module):
    """Grouped 1×1 convolution, interleaving, 3×3 filter by channel, grouped 1×1 convolution."""

    def __init__(self, inputs: int, outputs: int, first_groups: int, halve: bool) -> None:
        """Build the unit; one that halves the map puts out its pooled input among its ``outputs``."""
        super().__init__()
        made = outputs - inputs if halve else outputs
        inner = made // 4
        self.residual = nn.Sequential(
            nn.Conv2d(inputs, inner, 1, groups=first_groups, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
            Interleave(first_groups),
            nn.Conv2d(inner, inner, 3, 2 if halve else 1, 1, groups=inner, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
            nn.Conv2d(inner, made, 1, groups=GROUPS, bias=False),
            nn.BatchNorm2d(made),
        )
        self.pool = nn.AvgPool2d(3, 2, 1) if halve else None
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H, W), or to half of H and W."""
        y = self.residual(x)
        return self.relu(x + y if self.pool is None else torch.cat((y, self.pool(x)), dim=1))


class ShuffleNetV1(nn.Module):
    """ShuffleNet with 3 groups for small images."""

    def __init__(self, channels: int, classes: int) -> None:
        """Build stem and stages."""
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, STEM, 1, bias=False), nn.BatchNorm2d(STEM), nn.ReLU(inplace=True)
        )
        self.stages = nn.Sequential()
        inputs = STEM
        for index, (width, blocks) in enumerate(STAGES):
            # The stem has too few channels to be worth grouping (section 3.3 of the paper).
            chain = [ShuffleUnit(inputs, width, 1 if index == 0 else GROUPS, halve=True)]
            chain += [ShuffleUnit(width, width, GROUPS, halve=False) for _ in range(blocks - 1)]
            self.stages.append(nn.Sequential(*chain))
            inputs = width
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to logits (B, classes)."""
        return self.head(self.pool(self.stages(self.stem(x))).flatten(1))


@family(
    "shufflenet_v1",
    pattern=r"ShuffleV1",
    examples=("ShuffleV1",),
    summary="grouped 1x1 convolutions with interleaved channels, for small images",
    source="Zhang et al. 2018; CIFAR variant of the CRD tables (ICLR 2020)",
)
def build(*, input_shape: Shape, num_classes: int) -> ShuffleNetV1:
    """Build the ShuffleNet of the distillation tables."""
    return ShuffleNetV1(input_shape[0], num_classes)
