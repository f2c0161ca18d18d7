"""``born_again``: the student teaches a student of its own kind, generation after generation.

L = β·CE(z_s, y) + α·T²·KL(softmax(z_t/T) ‖ softmax(z_s/T)), with α = β = 1 and T = 1

The first generation learns from the teacher, each later one from the generation before it; all of them
have the student's architecture and train for the whole recipe. The student of the cell is the last of
``generations``. In the paper the teacher has that architecture too; here it is the suite's.

Furlanello et al., "Born-Again Neural Networks", ICML 2018, arXiv 1805.04770.
"""

from __future__ import annotations

from pydantic import Field

from kdbench.methods.base import method
from kdbench.methods.distillers.kd import KD
from kdbench.methods.quantities import Copies, Temperature, Weight


@method("born_again", title="generations of one model", source="Furlanello et al., ICML 2018", year=2018)
class BornAgain(KD):
    """Distillation by logits along a chain of equal models."""

    class Parameters(KD.Parameters):
        """As of kd, and the number of generations, the student included."""

        temperature: Temperature = 1.0
        alpha: Weight = 1.0
        beta: Weight = 1.0
        generations: Copies = Field(2, ge=2)

    @classmethod
    def assistants(cls, hyper: Parameters, student: str) -> tuple[str, ...]:
        """Return the generations before the student."""
        return (student,) * (hyper.generations - 1)
