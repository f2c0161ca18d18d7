"""Wide residual networks: ``wrn_40_2`` is 40 layers deep and twice as wide as a plain one.

Zagoruyko and Komodakis 2016: a 3×3 stem of 16 channels and three stages of n = (depth − 4)/6 blocks with
16, 32, 64 times the width at full, half and quarter resolution. A block normalises and activates before
each of its convolutions; batch-norm and ReLU close the last stage. Where a block changes the number of
channels, its shortcut is a 1×1 convolution of the activated input. Convolutions have no bias.
"""

from __future__ import annotations

from torch import Tensor, nn

from kdbench.models.registry import family
from kdbench.models.shapes import Shape


class PreActivationBlock(nn.Module):
    """Two 3×3 convolutions, each after batch-norm and ReLU, with a residual connection."""

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float) -> None:
        """Build the block; the shortcut is a projection where the channels change."""
        super().__init__()
        # Not one ReLU for both: they see maps of different sizes, and taps are found by module.
        self.enter = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(inplace=True))
        self.residual = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
        )
        self.projection: nn.Module | None = None
        if inputs != outputs:
            self.projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H/stride, W/stride)."""
        y = self.enter(x)
        shortcut = x if self.projection is None else self.projection(y)
        return self.residual(y) + shortcut


class WideResNet(nn.Module):
    """A wide residual network for small images."""

    def __init__(self, depth: int, factor: int, channels: int, classes: int, dropout: float = 0.0) -> None:
        """Build stem and stages; the stages have 16, 32 and 64 times ``factor`` channels."""
        super().__init__()
        blocks = (depth - 4) // 6
        self.conv = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.stages = nn.Sequential()
        inputs = 16
        for index, width in enumerate((16 * factor, 32 * factor, 64 * factor)):
            stride = 1 if index == 0 else 2
            chain = [PreActivationBlock(inputs, width, stride, dropout)]
            chain += [PreActivationBlock(width, width, 1, dropout) for _ in range(blocks - 1)]
            self.stages.append(nn.Sequential(*chain))
            inputs = width
        self.bn = nn.BatchNorm2d(inputs)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to logits (B, classes)."""
        x = self.relu(self.bn(self.stages(self.conv(x))))
        return self.head(self.pool(x).flatten(1))


@family(
    "wrn",
    pattern=r"wrn_(10|16|22|28|34|40)_([1-9][0-9]{0,2})",
    examples=("wrn_16_1", "wrn_16_2", "wrn_16_4", "wrn_28_2", "wrn_28_4", "wrn_40_1", "wrn_40_2", "wrn_40_4"),
    summary="wide residual network for small images; the numbers are depth and width",
    source="Zagoruyko and Komodakis 2016",
)
def build(
    depth: str, factor: str, *, input_shape: Shape, num_classes: int, dropout: float = 0.0
) -> WideResNet:
    """Build a wide residual network from the depth and the width in its name."""
    return WideResNet(int(depth), int(factor), input_shape[0], num_classes, dropout)
