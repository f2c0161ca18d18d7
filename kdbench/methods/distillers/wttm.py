"""``wttm``: ``ttm`` with each sample weighted by how smooth the teacher is on it.

L = CE(z_s, y) + w·mean [U_γ(p_t)·KL(p_t^γ / U_γ(p_t) ‖ p_s)], U_γ(p) = Σ_k p_k^γ, γ = 1/T

The power sum U is 1 where the teacher is sure of one class, and K^(1 − γ) where all are alike; the weights
are not normalised over the batch. As U grows with the number of classes K, so does the loss: w is tuned for
100.

The authors tune γ and w for each pair. Default: γ = 0.2 and w = 2, as they have them for resnet110 → resnet20
in their Table 8, the pair that ``ttm`` takes too; which pair to take is our choice. The others there have w
from 1.5 to 4.

Zheng, Yang, "Knowledge Distillation Based on Transformed Teacher Matching", ICLR 2024, arXiv 2402.11148.
"""

from __future__ import annotations

from kdbench.deferred import F, Tensor
from kdbench.methods.base import Batch, method
from kdbench.methods.distillers.ttm import TTM, transformed_divergence
from kdbench.methods.quantities import Weight
from kdbench.models.shapes import Outputs


def power_sum(logits: Tensor, temperature: float) -> Tensor:
    """Return Σ_k p_k^(1/T) (B,) of the probabilities p of logits (B, K)."""
    return (F.log_softmax(logits, dim=1) / temperature).logsumexp(dim=1).exp()


@method(
    "wttm",
    title="temperature on the teacher only, smooth samples first",
    source="Zheng and Yang, ICLR 2024",
    year=2024,
)
class WTTM(TTM):
    """Weighted matching of the transformed teacher."""

    class Parameters(TTM.Parameters):
        """As of ttm, with a weight w of its own."""

        weight: Weight = 2.0

    def terms(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted divergence."""
        temperature = self.hyper.temperature
        divergence = transformed_divergence(student.logits, teacher.logits, temperature)
        return {"wttm": self.hyper.weight * (power_sum(teacher.logits, temperature) * divergence).mean()}
