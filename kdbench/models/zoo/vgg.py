"""Plain networks of 3×3 convolutions for small images: ``vgg8`` to ``vgg19``.

Simonyan and Zisserman 2015, with batch-norm: five stages of 64, 128, 256, 512 and 512 channels, and one
linear layer on the globally pooled map in place of three. The map is halved between stages while it
is larger than 4×4: on 32×32 pixels the stages see 32, 16, 8, 4 and 4, on 64×64 they see 64, 32, 16, 8
and 4, as in the tables of the distillation literature (CRD, ICLR 2020).
"""

from __future__ import annotations

from torch import Tensor, nn

from kdbench.models.registry import family
from kdbench.models.shapes import Shape

WIDTHS = (64, 128, 256, 512, 512)
CONVOLUTIONS = {
    8: (1, 1, 1, 1, 1),
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
# A smaller map is not halved: less would be left than a 3×3 convolution covers.
SMALLEST_HALVED = 5


def _stage(inputs: int, outputs: int, convolutions: int, halve: bool) -> nn.Sequential:
    layers: list[nn.Module] = [nn.MaxPool2d(2)] if halve else []
    for _ in range(convolutions):
        layers += [
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
        inputs = outputs
    return nn.Sequential(*layers)


class VGG(nn.Module):
    """Five stages of 3×3 convolutions with batch-norm and ReLU."""

    def __init__(self, convolutions: tuple[int, ...], input_shape: Shape, classes: int) -> None:
        """Build the stages; ``convolutions`` counts those of each stage."""
        super().__init__()
        inputs, *sides = input_shape
        side = min(sides)
        self.stages = nn.Sequential()
        for index, (width, count) in enumerate(zip(WIDTHS, convolutions, strict=True)):
            halve = index > 0 and side >= SMALLEST_HALVED
            side = side // 2 if halve else side
            self.stages.append(_stage(inputs, width, count, halve))
            inputs = width
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to logits (B, classes)."""
        return self.head(self.pool(self.stages(x)).flatten(1))


@family(
    "vgg",
    pattern=r"vgg(8|11|13|16|19)",
    examples=("vgg8", "vgg11", "vgg13", "vgg16", "vgg19"),
    summary="plain 3x3 convolutions with batch-norm, for small images; the number is the depth",
    source="Simonyan and Zisserman 2015; CIFAR variant of the CRD tables (ICLR 2020)",
)
def build(depth: str, *, input_shape: Shape, num_classes: int) -> VGG:
    """Build a plain convolutional network from the depth in its name."""
    return VGG(CONVOLUTIONS[int(depth)], input_shape, num_classes)
