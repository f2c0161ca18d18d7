"""``ab``: the student first learns which neurons of the teacher are active, and then the task.

First stage: L = w·Σ_i 2^(i−n+1)·(1/B)·Σ_elements [a·max(0, m − r(f_s))² + (1 − a)·max(0, m + r(f_s))²],
a = 1 where f_t > 0 and 0 elsewhere, i = 0 … n − 1 the stages that meet, w = 3/1000, m = 1.
Then: L = CE(z_s, y).

The weight is that of the CIFAR-100 tables (CRD, ICLR 2020), the margin m that of the paper. A connector r,
a 1×1 convolution and batch-norm, maps the student's stage to the channels of the teacher's.

The paper takes features before their ReLU; the taps here give the outputs of stages, mostly after it. For
the teacher this is the same: ReLU, GELU and SiLU are positive exactly where their input is. For the
student it is not, as r sees rectified features, and a silent neuron gets no gradient from its own stage.
Where a stage does not end in an activation, as the blocks of a transformer, a is the sign of its
output, which bounds no neuron's activity.

Where the teacher's map is larger, a is the share of active neurons that fall on a position of the
student's, which gives the mean of their losses. The pooled feature would not do: after a ReLU it is
positive as soon as one of them is.

The first stage is the share ``first_stage`` of the training, by default 30 of 240 epochs, so that it
scales with short recipes; the classifier does not learn in it.

Heo et al., "Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden Neurons",
AAAI 2019, arXiv 1811.03233.
"""

from __future__ import annotations

from pydantic import Field

from kdbench.deferred import F, Tensor, nn, torch
from kdbench.methods.alignment import convolution, met_channels, same_size, stage_pairs
from kdbench.methods.base import Batch, Pair, method
from kdbench.methods.combined import Staged
from kdbench.methods.quantities import Part, Weight
from kdbench.models.shapes import Outputs, as_map


def boundary_loss(response: Tensor, active: Tensor, margin: float) -> Tensor:
    """Return the squared hinge of the student's responses, summed over elements, the mean over images.

    Args:
        response: the student's stage in the teacher's channels (B, C, H, W).
        active: share of the teacher's neurons that are active there (B, C, H, W), in [0, 1].
        margin: how far beyond zero a response has to be, > 0.
    """
    missed = active * F.relu(margin - response) ** 2
    spurious = (1 - active) * F.relu(margin + response) ** 2
    return (missed + spurious).sum() / len(response)


@method("ab", title="which neurons are active", source="Heo et al., AAAI 2019", year=2019)
class AB(Staged):
    """Activation boundaries in the first stage, cross-entropy afterwards."""

    class Parameters(Staged.Parameters):
        """Weight w of the boundaries, margin m, and the share of the training that learns them alone."""

        weight: Weight = 0.003
        margin: float = Field(1.0, gt=0, le=1e9)
        first_stage: Part = 0.125

    needs = frozenset({"logits", "stages"})
    targets = None

    def __init__(self, hyper: Parameters, pair: Pair) -> None:
        """Build a connector for every stage that meets."""
        super().__init__(hyper, pair)
        self.connectors = nn.ModuleList(convolution(*channels) for channels in met_channels(pair))

    def terms(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted boundary term in the first stage, and nothing afterwards."""
        if batch.progress >= self.hyper.first_stage:
            return {}
        stages, places = [], stage_pairs(self.pair)
        for number, ((mine, theirs), connector) in enumerate(zip(places, self.connectors, strict=True)):
            f_t = as_map(teacher.stages[theirs])
            f_s, active = same_size(student.stages[mine], (f_t > 0).to(f_t.dtype))
            share = 2.0 ** (number - len(places) + 1)
            stages.append(share * boundary_loss(connector(f_s), active, self.hyper.margin))
        return {"boundary": self.hyper.weight * torch.stack(stages).sum()}
