"""``scratch``: the student alone, with the labels. The control of every comparison.

L = CE(z_s, y), or the hard loss of another target
"""

from __future__ import annotations

from kdbench.deferred import Tensor
from kdbench.methods.base import Batch, Distiller, method
from kdbench.models.shapes import Outputs


@method("scratch", title="cross-entropy alone, the control", source="the usual training", year=1986)
class Scratch(Distiller):
    """The hard loss of the target; no teacher."""

    targets = None
    uses_teacher = False

    def losses(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        """Return the mean loss."""
        return {"ce": self.target.loss(student.logits, batch.target)}
