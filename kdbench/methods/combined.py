"""What most methods share: their own terms beside the hard loss, and, if a suite asks for it, plain KD."""

from __future__ import annotations

from typing import Any

from kdbench.deferred import Tensor
from kdbench.methods import base
from kdbench.methods.base import Batch, Distiller, Pair, Refusal
from kdbench.methods.quantities import Temperature, Weight
from kdbench.models.shapes import Outputs


class Combined(Distiller):
    """L = ce·CE(z_s, y) + kd·T²·KL(softmax(z_t/T) ‖ softmax(z_s/T)) + the method's own terms.

    CE and KL stand for the hard and the soft loss of the target. A method whose own terms read features only
    sets ``targets = None``.
    """

    class Parameters(base.Parameters):
        """Weight of the cross-entropy; weight and temperature T of the soft term, which is off by default."""

        ce: Weight = 1.0
        kd: Weight = 0.0
        kd_temperature: Temperature = 4.0

    @classmethod
    def soft_temperature(cls, hyper: Any) -> float | None:
        """Return T of the soft term while it has weight."""
        return hyper.kd_temperature if hyper.kd else None

    def terms(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the method's own loss terms: scalars with their weights already applied."""
        raise TypeError(f"{type(self).__name__} does not define terms()")

    def losses(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        """Return the cross-entropy, the soft term and the method's own terms, as far as they have weight."""
        assert teacher is not None
        losses = {}
        if self.hyper.ce:
            losses["ce"] = self.hyper.ce * self.target.loss(student.logits, batch.target)
        if self.hyper.kd:
            soft = self.target.soft_loss(student.logits, teacher.logits, self.hyper.kd_temperature)
            losses["kd"] = self.hyper.kd * soft
        return losses | self.terms(student, teacher, batch)


class Staged(Combined):
    """A first stage in which the method's own terms train the student alone, and then the rest alone.

    ``terms`` returns nothing once the first stage is over; what has weight of cross-entropy and kd follows.
    """

    @classmethod
    def check(cls, hyper: Any, pair: Pair) -> None:
        """Refuse a second stage without a loss."""
        if not hyper.ce and not hyper.kd:
            raise Refusal(
                f"ce and kd are 0, so student '{pair.student}' learns nothing after the first stage"
            )

    def losses(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        """Return the method's own terms in the first stage, and what has weight beside them afterwards."""
        assert teacher is not None
        return self.terms(student, teacher, batch) or super().losses(student, teacher, batch)
