"""A recurrent network that reads an image row by row: ``gru_32`` has 32 hidden units."""

from __future__ import annotations

from torch import Tensor, nn

from kdbench.models.registry import family
from kdbench.models.shapes import Shape


class RowGRU(nn.Module):
    """One GRU over the rows of an image; the mean of its states over the rows is classified."""

    def __init__(self, row: int, hidden: int, classes: int) -> None:
        """Build the recurrence; ``row`` counts the values of one image row over all channels."""
        super().__init__()
        self.gru = nn.GRU(row, hidden, batch_first=True)
        self.head = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to logits (B, classes)."""
        rows = x.transpose(1, 2).flatten(2)
        states, _ = self.gru(rows)
        return self.head(states.mean(dim=1))


@family(
    "gru",
    pattern=r"gru_([1-9][0-9]{0,4})",
    examples=("gru_16", "gru_32", "gru_64", "gru_128"),
    summary="gated recurrent unit over image rows; the number is the hidden size",
    source="Cho et al. 2014",
)
def build(hidden: str, *, input_shape: Shape, num_classes: int) -> RowGRU:
    """Build a recurrent network from the hidden size in its name."""
    channels, _, width = input_shape
    return RowGRU(channels * width, int(hidden), num_classes)
