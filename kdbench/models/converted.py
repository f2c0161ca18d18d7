"""A network that computes in another floating-point format than its inputs and outputs have."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kdbench.inputs import Inputs, cast


class Converted(nn.Module):
    """A model between two conversions: float32 in, float32 out, ``dtype`` inside."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        """Take a model whose weights have ``dtype`` already."""
        super().__init__()
        self.model = model
        self.dtype = dtype

    def forward(self, x: Inputs) -> Tensor:
        """Map inputs (B, ...) to logits (B, K), both float32; whole numbers among them stay what they are."""
        return self.model(cast(x, self.dtype)).float()
