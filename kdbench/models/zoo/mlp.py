"""Multi-layer perceptrons: ``mlp_128`` flattens the image, has one hidden layer of 128 units and ReLU."""

from __future__ import annotations

from math import prod

from torch import Tensor, nn

from kdbench.models.registry import family
from kdbench.models.shapes import Shape


class MLP(nn.Module):
    """A perceptron with ReLU after each hidden layer."""

    def __init__(self, inputs: int, hidden: list[int], classes: int, dropout: float = 0.0) -> None:
        """Build the layers; ``inputs`` counts the values of one flattened image."""
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        for width in hidden:
            layers += [nn.Linear(inputs, width), nn.ReLU()]
            if dropout:
                layers.append(nn.Dropout(dropout))
            inputs = width
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to logits (B, classes)."""
        return self.head(self.body(x))


@family(
    "mlp",
    pattern=r"mlp_([1-9][0-9]{0,4}(?:_[1-9][0-9]{0,4}){0,99})",
    examples=("mlp_32", "mlp_128", "mlp_256_128", "mlp_800_800"),
    summary="perceptron; numbers are the hidden widths (mlp_128 on MNIST is 784-128-10)",
    source="Rumelhart, Hinton, Williams 1986; mlp_800_800 is the student of Hinton et al. 2015",
)
def build(widths: str, *, input_shape: Shape, num_classes: int, dropout: float = 0.0) -> MLP:
    """Build a perceptron from the hidden widths in its name."""
    return MLP(prod(input_shape), [int(width) for width in widths.split("_")], num_classes, dropout)
