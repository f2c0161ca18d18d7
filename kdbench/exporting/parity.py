"""Whether an exported model says what the model says: its logits beside eager's, on the same inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdbench.inputs import Inputs, InputSpec, copied

# Rounding in float32, as a share of the largest logit; a wrong operator or layout is off by far more.
TOLERANCE = 1e-4
# Batches of different sizes, so that a batch dimension that was frozen is noticed.
BATCHES = (1, 2, 61)


@dataclass(frozen=True)
class Parity:
    """How the logits of two models differ on the same inputs.

    ``difference`` is the largest absolute difference of two logits and ``scale`` eager's largest absolute
    logit; ``agreement`` is the share of the inputs on which the largest logit is that of the same class.
    """

    inputs: int
    difference: float
    scale: float
    agreement: float

    @property
    def holds(self) -> bool:
        """Whether the difference is no more than rounding; a NaN on either side is more."""
        return self.difference <= TOLERANCE * self.scale

    def __str__(self) -> str:
        """Say the figures in one line."""
        return (
            f"on {self.inputs} inputs of random values the largest difference from eager is "
            f"{self.difference:.2g}, the largest logit {self.scale:.3g}, top-1 agreement {self.agreement:.1%}"
        )


def parity(model: nn.Module, other: Callable[[Inputs], Tensor], inputs: InputSpec) -> Parity:
    """Run both on the same random inputs.

    Args:
        model: the model, in evaluation mode.
        other: gives logits (B, K) of the exported one.
        inputs: what the model is shown.
    """
    batches = [inputs.example(size) for size in BATCHES]
    with torch.no_grad():
        # Copies, for a model may write into what it is shown.
        expected = torch.cat([model(copied(batch)) for batch in batches])
        exported = torch.cat([other(copied(batch)) for batch in batches])
    return Parity(
        inputs=len(expected),
        difference=(exported - expected).abs().max().item(),
        scale=expected.abs().max().item(),
        agreement=(exported.argmax(1) == expected.argmax(1)).float().mean().item(),
    )
