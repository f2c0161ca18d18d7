"""``scratch``: the student alone, with cross-entropy. The control of every comparison.

L = CE(z_s, y)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdbench.methods.base import Batch, Distiller, cross_entropy, method
from kdbench.models.shapes import Outputs

if TYPE_CHECKING:
    from torch import Tensor


@method("scratch", title="cross-entropy alone, the control", source="the usual training", year=1986)
class Scratch(Distiller):
    """Cross-entropy with the labels; no teacher."""

    uses_teacher = False

    def losses(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        """Return the mean cross-entropy."""
        return {"ce": cross_entropy(student, batch.target)}
