"""``dml``: networks without a teacher learn together and from each other (deep mutual learning).

L_k = CE(z_k, y) + w·mean_{l≠k} KL(softmax(z_l) ‖ softmax(z_k)), with w = 1 and temperature 1

The student is the first of the networks. Its peers start from their own random weights, see the same
batches and take their steps with the same optimiser; they are the method's own, so that a student has the
same peers whoever else is in its cohort. ``peer`` says whether they have the student's architecture or
the teacher's (its untrained shape, not its weights). All update together, the variant of the paper that
computes every prediction before any step.

Zhang et al., "Deep Mutual Learning", CVPR 2018, arXiv 1706.00384.
"""

from __future__ import annotations

from typing import Literal

from kdbench.deferred import F, Tensor, nn
from kdbench.methods import base
from kdbench.methods.base import Batch, Distiller, Networks, method
from kdbench.methods.quantities import Copies, Weight
from kdbench.models.shapes import Outputs
from kdbench.targets.single_label import soft_loss


@method("dml", title="peers teach each other", source="Zhang et al., CVPR 2018", year=2018)
class DML(Distiller):
    """A student and its peers, each with cross-entropy and the mean divergence from the others."""

    class Parameters(base.Parameters):
        """Number of peers, the model they are of, and the weight w of what they say."""

        peers: Copies = 1
        peer: Literal["student", "teacher"] = "student"
        weight: Weight = 1.0

    uses_teacher = False

    def prepare(self, networks: Networks) -> None:
        """Make the peers, each with random weights of its own."""
        self.peers = nn.ModuleList(networks.fresh(self.hyper.peer) for _ in range(self.hyper.peers))

    def losses(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        """Return the cross-entropy and the mutual term of the student, and the same two of all peers."""
        logits = [student.logits, *(batch.run(peer) for peer in self.peers)]
        hard = [F.cross_entropy(own, batch.target) for own in logits]
        mutual = [self.hyper.weight * mutual_loss(logits, number) for number in range(len(logits))]
        return {
            "ce": hard[0],
            "mutual": mutual[0],
            "peers_ce": sum(hard[1:], start=hard[0].new_zeros(())),
            "peers_mutual": sum(mutual[1:], start=hard[0].new_zeros(())),
        }


def mutual_loss(logits: list[Tensor], number: int) -> Tensor:
    """Return mean_{l≠k} KL(softmax(z_l) ‖ softmax(z_k)) for k = ``number``; the z_l take no gradient."""
    others = [other.detach() for place, other in enumerate(logits) if place != number]
    divergences = [soft_loss(logits[number], other, 1.0) for other in others]
    return sum(divergences, start=logits[number].new_zeros(())) / len(others)
