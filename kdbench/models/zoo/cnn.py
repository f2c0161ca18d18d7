"""A small plain convolutional network by width: ``cnn_16`` has stages of 16, 32 and 64 channels."""

from __future__ import annotations

from torch import Tensor, nn

from kdbench.models.registry import family
from kdbench.models.shapes import Shape


def _stage(inputs: int, outputs: int, pool: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for source in (inputs, outputs):
        layers += [
            nn.Conv2d(source, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    if pool:
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


class CNN(nn.Module):
    """Three stages of two 3×3 convolutions with batch-norm; the map is halved after the first two."""

    def __init__(self, channels: int, width: int, classes: int, dropout: float = 0.0) -> None:
        """Build the stages of ``width``, 2·``width`` and 4·``width`` channels."""
        super().__init__()
        self.stages = nn.Sequential(
            _stage(channels, width, pool=True),
            _stage(width, 2 * width, pool=True),
            _stage(2 * width, 4 * width, pool=False),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to logits (B, classes)."""
        return self.head(self.dropout(self.pool(self.stages(x)).flatten(1)))


@family(
    "cnn",
    pattern=r"cnn_([1-9][0-9]{0,4})",
    examples=("cnn_4", "cnn_8", "cnn_16", "cnn_32", "cnn_64"),
    summary="three stages of two 3x3 convolutions; the number is the width of the first stage",
    source="after VGG: Simonyan and Zisserman 2015, with batch-norm",
)
def build(width: str, *, input_shape: Shape, num_classes: int, dropout: float = 0.0) -> CNN:
    """Build a convolutional network from the width in its name."""
    return CNN(input_shape[0], int(width), num_classes, dropout)
