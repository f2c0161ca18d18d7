"""MobileNetV2 at half width, for small images: ``MobileNetV2``.

Sandler et al. 2018: inverted residual blocks, which expand their channels 6 times, filter each
channel on its own and project back without an activation. This is the student of the tables of the
distillation literature (CRD, ICLR 2020): half of the paper's channels up to the last 1×1 convolution,
which keeps its 1280; the second stage is not strided, so that 32×32 pixels end as 2×2; the first block, too,
has its 1×1 convolution before the filter; ReLU takes the place of ReLU6.
"""

from __future__ import annotations

from torch import Tensor, nn

from kdbench.models.registry import family
from kdbench.models.shapes import Shape

STEM = 16
# (expansion, channels, blocks, stride) of each stage
STAGES = (
    (1, 8, 1, 1),
    (6, 12, 2, 1),
    (6, 16, 3, 2),
    (6, 32, 4, 2),
    (6, 48, 3, 1),
    (6, 80, 3, 2),
    (6, 160, 1, 1),
)
LAST = 1280


def _convolution(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]


class InvertedResidual(nn.Module):
    """Expansion, filter by channel, linear projection; a residual connection where the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        """Build the block; between its 1×1 convolutions it has ``expansion`` · ``inputs`` channels."""
        super().__init__()
        inner = expansion * inputs
        self.body = nn.Sequential(
            *_convolution(inputs, inner, 1),
            nn.ReLU(inplace=True),
            *_convolution(inner, inner, 3, stride, groups=inner),
            nn.ReLU(inplace=True),
            *_convolution(inner, outputs, 1),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H/stride, W/stride)."""
        return x + self.body(x) if self.residual else self.body(x)


class MobileNetV2(nn.Module):
    """MobileNetV2 of half width for small images."""

    def __init__(self, channels: int, classes: int) -> None:
        """Build stem, stages and the last 1×1 convolution."""
        super().__init__()
        self.stem = nn.Sequential(*_convolution(channels, STEM, 3, stride=2), nn.ReLU(inplace=True))
        self.stages = nn.Sequential()
        inputs = STEM
        for expansion, width, blocks, stride in STAGES:
            chain = [InvertedResidual(inputs, width, stride, expansion)]
            chain += [InvertedResidual(width, width, 1, expansion) for _ in range(blocks - 1)]
            self.stages.append(nn.Sequential(*chain))
            inputs = width
        self.last = nn.Sequential(*_convolution(inputs, LAST, 1), nn.ReLU(inplace=True))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(LAST, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to logits (B, classes)."""
        x = self.last(self.stages(self.stem(x)))
        return self.head(self.pool(x).flatten(1))


@family(
    "mobilenet_v2",
    pattern=r"MobileNetV2",
    examples=("MobileNetV2",),
    summary="inverted residual blocks at half width, for small images",
    source="Sandler et al. 2018; half width of the CRD tables (ICLR 2020)",
)
def build(*, input_shape: Shape, num_classes: int) -> MobileNetV2:
    """Build the MobileNetV2 of the distillation tables."""
    return MobileNetV2(input_shape[0], num_classes)
