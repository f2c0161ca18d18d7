"""``fsp``: the student first learns how features flow from stage to stage, and then the task.

First stage: L = w·Σ mean (G_s − G_t)², with w = 1. Then: L = CE(z_s, y).
G_ij = mean over positions of f1_i·f2_j, for two consecutive stages f1 and f2 of the same network

The weight is that which the code of the CIFAR-100 tables (CRD, ICLR 2020) applies in this stage; the 50
of its command line multiplies nothing. It also takes the stem as a stage, which is left out here. The
mean goes over images and entries of G, the sum over the consecutive stages that meet. G has one row a
channel of f1 and one column a channel of f2, so both models need the same channels; the sizes of the maps
may differ, and within a network the larger of both maps is pooled to the size of the smaller. In the
paper f1 and f2 are the first and the last layer of one group of blocks, where here they are the outputs
of neighbouring groups.

The first stage is the share ``first_stage`` of the training, by default 30 of 240 epochs, so that it
scales with short recipes; the classifier does not learn in it.

Yim et al., "A Gift from Knowledge Distillation: Fast Optimization, Network Minimization and Transfer
Learning", CVPR 2017.
"""

from __future__ import annotations

from itertools import pairwise

from kdbench.deferred import F, Tensor, torch
from kdbench.methods.alignment import met_channels, require_stages, same_size, stage_pairs
from kdbench.methods.base import Batch, Pair, Refusal, method
from kdbench.methods.combined import Staged
from kdbench.methods.quantities import Part, Weight
from kdbench.models.shapes import Outputs


def flow_matrix(first: Tensor, second: Tensor) -> Tensor:
    """Return G (B, C1, C2), the mean over positions of the products of two maps' channels.

    Args:
        first: a map (B, C1, H1, W1).
        second: a map (B, C2, H2, W2); the larger of both is pooled to the size of the smaller.
    """
    first, second = (stage.flatten(2) for stage in same_size(first, second))
    return first @ second.transpose(1, 2) / first.shape[2]


@method("fsp", title="flow from stage to stage", source="Yim et al., CVPR 2017", year=2017)
class FSP(Staged):
    """Flow matrices in the first stage, cross-entropy afterwards."""

    class Parameters(Staged.Parameters):
        """Weight w of the flow matrices, and the share of the training that learns them alone."""

        weight: Weight = 1.0
        first_stage: Part = 0.125

    needs = frozenset({"logits", "stages"})
    targets = None

    @classmethod
    def check(cls, hyper: Parameters, pair: Pair) -> None:
        """Refuse a pair without two stages or with different channels, and a second stage without a loss."""
        require_stages(pair, 2)
        mine, theirs = zip(*met_channels(pair), strict=True)
        if mine != theirs:
            raise Refusal(
                f"it needs equal channels, but at the stages that meet, teacher '{pair.teacher}' has "
                f"{', '.join(map(str, theirs))} and student '{pair.student}' has {', '.join(map(str, mine))}"
            )
        super().check(hyper, pair)

    def terms(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted flow term in the first stage, and nothing afterwards."""
        if batch.progress >= self.hyper.first_stage:
            return {}
        flows = [
            F.mse_loss(
                flow_matrix(student.stages[mine], student.stages[next_mine]),
                flow_matrix(teacher.stages[theirs], teacher.stages[next_theirs]),
            )
            for (mine, theirs), (next_mine, next_theirs) in pairwise(stage_pairs(self.pair))
        ]
        return {"flow": self.hyper.weight * torch.stack(flows).sum()}
