"""The residual network of ImageNet for small images: ``ResNet50``.

He et al. 2016, table 1: bottleneck blocks in stages of 3, 4, 6 and 3, with 256, 512, 1024 and 2048 channels.
As in the tables of the distillation literature (CRD, ICLR 2020), the stem is one 3×3 convolution of
64 channels without pooling, so that 32×32 pixels are seen at 32, 16, 8 and 4, and the 3×3 convolution of
a block takes the stride.
"""

from __future__ import annotations

from torch import Tensor, nn

from kdbench.models.registry import family
from kdbench.models.shapes import Shape

BLOCKS = {50: (3, 4, 6, 3)}
STEM = 64
# What a block puts out for each channel of its 3×3 convolution.
EXPANSION = 4


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions with a residual connection."""

    def __init__(self, inputs: int, inner: int, stride: int) -> None:
        """Build the block; the shortcut is a projection where the shape changes."""
        super().__init__()
        outputs = EXPANSION * inner
        self.residual = nn.Sequential(
            nn.Conv2d(inputs, inner, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
            nn.Conv2d(inner, inner, 3, stride, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
            nn.Conv2d(inner, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, 4 · inner, H/stride, W/stride)."""
        return self.relu(self.residual(x) + self.shortcut(x))


class BottleneckResNet(nn.Module):
    """A residual network of bottleneck blocks for small images."""

    def __init__(self, blocks: tuple[int, ...], channels: int, classes: int) -> None:
        """Build stem and stages; ``blocks`` counts those of each stage."""
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, STEM, 3, padding=1, bias=False), nn.BatchNorm2d(STEM), nn.ReLU(inplace=True)
        )
        self.stages = nn.Sequential()
        inputs = STEM
        for index, count in enumerate(blocks):
            inner = STEM * 2**index
            outputs = EXPANSION * inner
            chain = [Bottleneck(inputs, inner, 1 if index == 0 else 2)]
            chain += [Bottleneck(outputs, inner, 1) for _ in range(count - 1)]
            self.stages.append(nn.Sequential(*chain))
            inputs = outputs
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to logits (B, classes)."""
        return self.head(self.pool(self.stages(self.stem(x))).flatten(1))


@family(
    "resnet_bottleneck",
    pattern=r"ResNet(50)",
    examples=("ResNet50",),
    summary="residual network of bottleneck blocks with a 3x3 stem, for small images",
    source="He et al. 2016; CIFAR variant of the CRD tables (ICLR 2020)",
)
def build(depth: str, *, input_shape: Shape, num_classes: int) -> BottleneckResNet:
    """Build a residual network of bottleneck blocks from the depth in its name."""
    return BottleneckResNet(BLOCKS[int(depth)], input_shape[0], num_classes)
