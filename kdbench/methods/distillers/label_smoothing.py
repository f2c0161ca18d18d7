"""``label_smoothing``: soft targets without a teacher; what a teacher must beat.

L = CE(z_s, (1 − ε)·onehot(y) + ε/K), with ε = 0.1

Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016, section 7.
"""

from __future__ import annotations

from kdbench.deferred import F, Tensor
from kdbench.methods import base
from kdbench.methods.base import Batch, Distiller, method
from kdbench.methods.quantities import ProperShare
from kdbench.models.shapes import Outputs


@method(
    "label_smoothing", title="uniform soft targets, a control", source="Szegedy et al., CVPR 2016", year=2016
)
class LabelSmoothing(Distiller):
    """Cross-entropy with smoothed labels; no teacher."""

    class Parameters(base.Parameters):
        """ε, the probability that is spread over all classes."""

        epsilon: ProperShare = 0.1

    uses_teacher = False

    def losses(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        """Return the mean cross-entropy with the smoothed labels."""
        return {"ce": F.cross_entropy(student.logits, batch.target, label_smoothing=self.hyper.epsilon)}
