"""``scratch``: the student alone, with cross-entropy. The control of every comparison.

L = CE(z_s, y)
"""

from __future__ import annotations

from torch import Tensor

from kdbench.methods.base import Distiller, cross_entropy, method
from kdbench.models.features import Outputs


@method("scratch", title="cross-entropy alone, the control", source="the usual training", year=1986)
class Scratch(Distiller):
    """Cross-entropy with the labels; no teacher."""

    uses_teacher = False

    def forward(
        self, student: Outputs, teacher: Outputs | None, target: Tensor, progress: float
    ) -> dict[str, Tensor]:
        """Return the mean cross-entropy."""
        return {"ce": cross_entropy(student, target)}
