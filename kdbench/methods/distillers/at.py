"""``at``: the student attends to the same places of the image as the teacher.

L = CE(z_s, y) + w·Σ_stages mean_{b,x} (Q_s − Q_t)², with w = 1000

Q is the attention map of an image: at every position x the mean over the channels of |f|^p, p = 2,
divided by its L2 norm over the positions. All stages that meet are compared; the larger map is pooled to
the size of the smaller before its attention is taken. Weight and pooling are those of the CIFAR-100
tables (CRD, ICLR 2020), and so are the stages of residual networks. The paper itself writes β/2·‖Q_s −
Q_t‖₂, not squared, where β is 1000 divided by the number of positions and of images.

A map of one position has Q = 1 whatever the network does, so a pair all of whose stages meet in such maps
is refused.

Zagoruyko, Komodakis, "Paying More Attention to Attention: Improving the Performance of Convolutional Neural
Networks via Attention Transfer", ICLR 2017, arXiv 1612.03928.
"""

from __future__ import annotations

from pydantic import Field

from kdbench.deferred import F, Tensor, torch
from kdbench.methods.alignment import met_stages, require_positions, unit
from kdbench.methods.base import Batch, Pair, method
from kdbench.methods.combined import Combined
from kdbench.methods.quantities import Weight
from kdbench.models.shapes import Outputs


def attention(stage: Tensor, power: float) -> Tensor:
    """Return the attention maps (B, H·W), of L2 norm 1, of feature maps (B, C, H, W).

    The scale of an image's map has no effect, so its largest activation is made 1 first: a high power would
    overflow, or vanish, otherwise.
    """
    magnitude = stage.abs()
    largest = magnitude.detach().amax((1, 2, 3), keepdim=True)
    relative = magnitude / largest.masked_fill(largest == 0, 1.0)
    return unit(relative.pow(power).mean(1).flatten(1), 1)


def attention_loss(f_s: Tensor, f_t: Tensor, power: float = 2.0) -> Tensor:
    """Return mean_{b,x} (Q_s − Q_t)² of feature maps (B, C, H, W) of the same height and width."""
    return F.mse_loss(attention(f_s, power), attention(f_t, power))


@method("at", title="match the attention maps", source="Zagoruyko and Komodakis, ICLR 2017", year=2017)
class AttentionTransfer(Combined):
    """Squared error of the normalised attention maps of all stages that meet."""

    class Parameters(Combined.Parameters):
        """Weight w of the term; power p of the activations, where a higher one looks at the peaks."""

        weight: Weight = 1000.0
        power: float = Field(2.0, ge=1, le=100)

    needs = frozenset({"logits", "stages"})
    targets = None

    @classmethod
    def check(cls, hyper: Parameters, pair: Pair) -> None:
        """Refuse a pair without places."""
        require_positions(pair)

    def terms(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted sum over the stages."""
        stages = met_stages(self.pair, student, teacher)
        losses = [attention_loss(f_s, f_t, self.hyper.power) for f_s, f_t in stages]
        return {"attention": self.hyper.weight * torch.stack(losses).sum()}
