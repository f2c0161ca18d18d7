"""``nst``: the student's channels select the same patterns of places as the teacher's.

L = CE(z_s, y) + w·Σ_stages mean_b MMD²(channels of f_s, channels of f_t), with w = 50

For each image, the channels of a stage, as vectors over the positions of L2 norm 1, are samples from a
distribution, and the two distributions are compared by the maximum mean discrepancy with k(x, y) = (xᵀy)²:

MMD² = mean_{cc'} k(t_c, t_c') + mean_{cc'} k(s_c, s_c') − 2·mean_{cc'} k(t_c, s_c')

All stages that meet take part, with the larger map pooled to the size of the smaller; that and the weight
follow the CIFAR-100 tables (CRD, ICLR 2020). The number of channels may differ, so there is no adapter.
Of the paper's three kernels, this is the polynomial one with d = 2 and c = 0; the paper writes the weight
as w/2.

Maps of one position have channels ±1, so a pair all of whose stages meet in such maps is refused.

Huang, Wang, "Like What You Like: Knowledge Distill via Neuron Selectivity Transfer", 2017, arXiv 1707.01219.
"""

from __future__ import annotations

from kdbench.deferred import Tensor, torch
from kdbench.methods.alignment import met_stages, require_positions, unit
from kdbench.methods.base import Batch, Pair, method
from kdbench.methods.combined import Combined
from kdbench.methods.quantities import Weight
from kdbench.models.shapes import Outputs


def mean_kernel(first: Tensor, second: Tensor) -> Tensor:
    """Return the mean of (xᵀy)² over all pairs of rows of (B, C, N) and (B, C', N), by image (B,)."""
    return (first @ second.transpose(1, 2)).square().mean((1, 2))


def mean_outer_product(vectors: Tensor) -> Tensor:
    """Return the mean of x·xᵀ over the rows of (B, C, N), by image (B, N, N)."""
    return vectors.transpose(1, 2) @ vectors / vectors.shape[1]


def discrepancy(f_s: Tensor, f_t: Tensor) -> Tensor:
    """Return MMD² of the channels of maps (B, C, H, W) of the same height and width, the mean over the batch.

    As (xᵀy)² is the inner product of x·xᵀ and y·yᵀ, MMD² is also the squared distance of their means,
    N·N numbers an image instead of C·C', which is the shorter way for few positions and many channels.
    """
    s, t = unit(f_s.flatten(2), 2), unit(f_t.flatten(2), 2)
    positions = s.shape[2]
    if positions < max(s.shape[1], t.shape[1]):
        squared = (mean_outer_product(s) - mean_outer_product(t)).square().sum((1, 2))
    else:
        squared = mean_kernel(t, t) + mean_kernel(s, s) - 2 * mean_kernel(t, s)
    return squared.mean()


@method("nst", title="match the distribution of channels", source="Huang and Wang 2017", year=2017)
class NeuronSelectivity(Combined):
    """Maximum mean discrepancy of the channels of all stages that meet."""

    class Parameters(Combined.Parameters):
        """Weight w of the term."""

        weight: Weight = 50.0

    needs = frozenset({"logits", "stages"})
    targets = None

    @classmethod
    def check(cls, hyper: Parameters, pair: Pair) -> None:
        """Refuse a pair without places."""
        require_positions(pair)

    def terms(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted sum over the stages."""
        losses = [discrepancy(f_s, f_t) for f_s, f_t in met_stages(self.pair, student, teacher)]
        return {"selectivity": self.hyper.weight * torch.stack(losses).sum()}
