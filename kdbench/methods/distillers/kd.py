"""``kd``: the student matches the teacher's softened probabilities.

L = α·T²·KL(softmax(z_t/T) ‖ softmax(z_s/T)) + β·CE(z_s, y)

Defaults of the CIFAR-100 tables (CRD, ICLR 2020): T = 4, α = 0.9, β = 0.1. The factor T² keeps the
gradients of the soft term at the scale of the hard one.

Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, arXiv 1503.02531.
"""

from __future__ import annotations

from typing import Any

from kdbench.deferred import Tensor
from kdbench.methods import base
from kdbench.methods.base import Batch, Distiller, method
from kdbench.methods.quantities import Temperature, Weight
from kdbench.models.shapes import Outputs


@method(
    "kd", title="softened teacher probabilities", source="Hinton et al. 2015, arXiv 1503.02531", year=2015
)
class KD(Distiller):
    """The original distillation by logits; other targets have a soft and a hard loss of their own."""

    class Parameters(base.Parameters):
        """Temperature T, weight α of the soft term, weight β of the hard term."""

        temperature: Temperature = 4.0
        alpha: Weight = 0.9
        beta: Weight = 0.1

    targets = None

    @classmethod
    def soft_temperature(cls, hyper: Any) -> float | None:
        """Return T while the soft term has weight."""
        return hyper.temperature if hyper.alpha else None

    def losses(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted soft and hard terms."""
        assert teacher is not None
        soft = self.target.soft_loss(student.logits, teacher.logits, self.hyper.temperature)
        hard = self.target.loss(student.logits, batch.target)
        return {"kd": self.hyper.alpha * soft, "ce": self.hyper.beta * hard}
