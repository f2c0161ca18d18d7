"""``takd``: a teacher teaches an assistant of middle size, which teaches the student.

L = α·T²·KL(softmax(z_t/T) ‖ softmax(z_s/T)) + β·CE(z_s, y), with T = 4, α = 0.9, β = 0.1

``assistants`` names one or more models, the largest first; each learns by this loss from the one before
it, the first from the teacher, the student from the last. The weights are those of ``kd``, so that only the
chain differs from it.

Mirzadeh et al., "Improved Knowledge Distillation via Teacher Assistant", AAAI 2020, arXiv 1902.03393.
"""

from __future__ import annotations

from pydantic import Field

from kdbench.methods.base import Pair, Refusal, method
from kdbench.methods.distillers.kd import KD


@method("takd", title="kd through assistants", source="Mirzadeh et al., AAAI 2020", year=2020)
class TAKD(KD):
    """Distillation by logits along a chain of models of falling size."""

    class Parameters(KD.Parameters):
        """As of kd, and the names of the assistants from large to small."""

        assistants: tuple[str, ...] = Field((), max_length=100)

    @classmethod
    def check(cls, hyper: Parameters, pair: Pair) -> None:
        """Refuse a chain without an assistant, which would be plain kd."""
        if not hyper.assistants:
            raise Refusal("no assistant is named: set assistants, for example [resnet32]")

    @classmethod
    def assistants(cls, hyper: Parameters, student: str) -> tuple[str, ...]:
        """Return the assistants from large to small."""
        return hyper.assistants
