"""``pkt``: from any image, the student finds the others as near as the teacher finds them.

L = CE(z_s, y) + w·(1/B²)·Σ_{ij} q_t,ij·log(q_t,ij / q_s,ij), with w = 30000

q_ij = s_ij / Σ_k s_ik, with s_ij = (1 + cos(f_i, f_j))/2 of the pooled features: the probability of j in
the neighbourhood of i. Weight and mean over all B² entries, i = j among them, of the CIFAR-100 tables (CRD,
ICLR 2020); the paper sums over i ≠ j. s is kept above 1e-7, so that opposite features have a logarithm;
public code adds 1e-7 to the probabilities, which then no longer sum to 1.

The term stays the same when the feature of any image is scaled by a positive factor, and when the features
are rotated.

Passalis, Tefas, "Learning Deep Representations with Probabilistic Knowledge Transfer", ECCV 2018,
arXiv 1803.10837.
"""

from __future__ import annotations

from kdbench.deferred import Tensor
from kdbench.methods.alignment import unit
from kdbench.methods.base import Batch, method
from kdbench.methods.combined import Combined
from kdbench.methods.quantities import Weight
from kdbench.models.shapes import Outputs

SMALLEST = 1e-7


def log_neighbourhoods(features: Tensor) -> Tensor:
    """Return log q (B, B) of features (B, D): each row is a distribution over the batch."""
    directions = unit(features, 1)
    closeness = ((1 + directions @ directions.T) / 2).clamp(min=SMALLEST)
    return closeness.log() - closeness.sum(1, keepdim=True).log()


def neighbourhood_loss(f_s: Tensor, f_t: Tensor) -> Tensor:
    """Return the mean over B² of q_t·log(q_t/q_s) of features (B, D), whose D may differ, in nats."""
    log_q_s, log_q_t = log_neighbourhoods(f_s), log_neighbourhoods(f_t)
    return (log_q_t.exp() * (log_q_t - log_q_s)).mean()


@method("pkt", title="keep neighbourhoods between images", source="Passalis and Tefas, ECCV 2018", year=2018)
class ProbabilisticTransfer(Combined):
    """Divergence between the distributions of neighbours in a batch, on pooled features."""

    class Parameters(Combined.Parameters):
        """Weight w of the term."""

        weight: Weight = 30000.0

    needs = frozenset({"logits", "pooled"})
    targets = None

    def terms(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted term."""
        assert student.pooled is not None and teacher.pooled is not None
        return {"neighbourhood": self.hyper.weight * neighbourhood_loss(student.pooled, teacher.pooled)}
