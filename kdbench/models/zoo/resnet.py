"""The CIFAR family of residual networks: ``resnet20``, ``resnet8x4`` and their like.

He et al. 2016, section 4.2: a 3×3 stem and three stages of n = (depth − 2)/6 basic blocks at full, half and
quarter resolution. The stem has 16 channels (32 with the suffix ``x4``), the stages 16, 32, 64 times
the suffix. Shortcuts that change shape are 1×1 convolutions with batch-norm, as in the tables of the
distillation literature (CRD, ICLR 2020), whose parameter counts these models match.
"""

from __future__ import annotations

from torch import Tensor, nn

from kdbench.models.registry import family
from kdbench.models.shapes import Shape


class BasicBlock(nn.Module):
    """Two 3×3 convolutions with a residual connection."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        """Build the block; the shortcut is a projection where the shape changes."""
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H/stride, W/stride)."""
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """A residual network for small images."""

    def __init__(self, depth: int, widths: tuple[int, int, int, int], channels: int, classes: int) -> None:
        """Build stem and stages; ``widths`` gives the channels of the stem and of the three stages."""
        super().__init__()
        blocks = (depth - 2) // 6
        stem, *stages = widths
        self.conv = nn.Conv2d(channels, stem, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU(inplace=True)
        self.stages = nn.Sequential()
        inputs = stem
        for index, width in enumerate(stages):
            stride = 1 if index == 0 else 2
            chain = [BasicBlock(inputs, width, stride)]
            chain += [BasicBlock(width, width, 1) for _ in range(blocks - 1)]
            self.stages.append(nn.Sequential(*chain))
            inputs = width
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to logits (B, classes)."""
        x = self.stages(self.relu(self.bn(self.conv(x))))
        return self.head(self.pool(x).flatten(1))


@family(
    "resnet",
    pattern=r"resnet(8|14|20|32|44|56|110)(?:x([1-9][0-9]{0,2}))?",
    examples=(
        *(f"resnet{depth}" for depth in (8, 14, 20, 32, 44, 56, 110)),
        "resnet8x4",
        "resnet14x4",
        "resnet32x4",
    ),
    summary="residual network for small images; xN widens the stages N times",
    source="He et al. 2016, CIFAR variant; widths of the CRD tables (ICLR 2020)",
)
def build(depth: str, factor: str | None, *, input_shape: Shape, num_classes: int) -> ResNet:
    """Build a residual network from the depth and the widening factor in its name."""
    widen = int(factor or 1)
    stem = 16 if widen == 1 else 32
    widths = (stem, 16 * widen, 32 * widen, 64 * widen)
    return ResNet(int(depth), widths, input_shape[0], num_classes)
