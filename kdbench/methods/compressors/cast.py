"""``cast``: the weights in a narrower floating-point format.

θ ← round_p(θ), p ∈ {bf16, fp16}; the network takes float32 and returns float32, and computes in p between.

bf16 keeps the exponent of float32 (8 bits) and 7 of its 23 bits of mantissa; fp16 has 5 and 10, and what
lies beyond ±65,504 becomes infinite, which is refused. Either halves the file.

Kalamkar et al., "A Study of BFLOAT16 for Deep Learning Training", 2019, arXiv 1905.12322; IEEE 754-2008
(binary16).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from kdbench.deferred import nn, torch
from kdbench.errors import UserError
from kdbench.inputs import Inputs
from kdbench.methods import base
from kdbench.methods.compressor import Compressor, Decision, compressor


@compressor("cast", title="weights in 16 bits", source="Kalamkar et al. 2019, arXiv 1905.12322", year=2019)
class Cast(Compressor):
    """A network whose weights and arithmetic are bf16 or fp16."""

    class Parameters(base.Parameters):
        """The format."""

        dtype: Literal["bf16", "fp16"] = "bf16"

    # Weights of 8 bits of mantissa lose most updates of an optimiser.
    last = True

    def decide(self, model: nn.Module, batches: Iterable[Inputs]) -> Decision:
        """Return the format; raises UserError where a weight does not fit into it."""
        largest = torch.finfo(_torch_dtype(self.hyper.dtype)).max
        for name, value in model.state_dict().items():
            extreme = value.abs().max() if value.is_floating_point() and value.numel() else 0
            if extreme > largest:
                raise UserError(
                    f"'{name}' holds {extreme:.3g}, beyond the {largest:.3g} of {self.hyper.dtype}: "
                    "use dtype: bf16."
                )
        return {"dtype": self.hyper.dtype}

    def apply(self, model: nn.Module, decision: Decision) -> nn.Module:
        """Return the network in the format, between two conversions."""
        # The class needs torch at its definition, which the plan does without.
        from kdbench.models.converted import Converted

        dtype = _torch_dtype(decision["dtype"])
        return Converted(model.to(dtype), dtype)


def _torch_dtype(name: str) -> torch.dtype:
    return {"bf16": torch.bfloat16, "fp16": torch.float16}[name]
