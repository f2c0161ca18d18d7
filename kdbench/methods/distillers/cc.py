"""``cc``: embeddings of student and teacher differ little, and in no direction that neighbours share.

L = CE(z_s, y) + w·mean_i Σ_d |δ_i,d|·|δ_{i+1},d|, δ = E_s(f_s) − E_t(f_t), with w = 0.02

E_s and E_t are linear, of 128 outputs, on the pooled features; i and i + 1 are neighbours in the batch, of
which there are B − 1. Both embeddings train, as in the CIFAR-100 tables (CRD, ICLR 2020), whose formula,
weight and width these are.

That formula is not the paper's, which takes the squared difference of two matrices (B, B) of kernel
correlations between images, with plain KD beside it. Nothing in it prevents E_s and E_t from becoming
constant and equal, where the term is 0 whatever the student's features are: read a weak result of ``cc`` as
one of this form, not of the paper's.

Peng et al., "Correlation Congruence for Knowledge Distillation", ICCV 2019, arXiv 1904.01802.
"""

from __future__ import annotations

from kdbench.deferred import Tensor, nn
from kdbench.methods.base import Batch, Pair, method
from kdbench.methods.combined import Combined
from kdbench.methods.quantities import Weight, Width
from kdbench.models.shapes import Outputs


def congruence_loss(e_s: Tensor, e_t: Tensor) -> Tensor:
    """Return the mean over the B − 1 neighbours of Σ_d |δ_i|·|δ_{i+1}| of embeddings (B, D); 0 for B = 1."""
    distance = (e_s - e_t).abs()
    return (distance[:-1] * distance[1:]).sum() / max(len(distance) - 1, 1)


@method("cc", title="agree in an embedding, over neighbours", source="Peng et al., ICCV 2019", year=2019)
class CorrelationCongruence(Combined):
    """Products of the differences of neighbours in a common embedding, on pooled features."""

    class Parameters(Combined.Parameters):
        """Weight w of the term; width of the embedding."""

        weight: Weight = 0.02
        width: Width = 128

    needs = frozenset({"logits", "pooled"})
    targets = None

    def __init__(self, hyper: Parameters, pair: Pair) -> None:
        """Build the two embeddings."""
        super().__init__(hyper, pair)
        source, target = pair.student_shapes.pooled, pair.teacher_shapes.pooled
        assert source is not None and target is not None
        self.student_embedding = nn.Linear(source[0], hyper.width)
        self.teacher_embedding = nn.Linear(target[0], hyper.width)

    def terms(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted term."""
        assert student.pooled is not None and teacher.pooled is not None
        e_s, e_t = self.student_embedding(student.pooled), self.teacher_embedding(teacher.pooled)
        return {"congruence": self.hyper.weight * congruence_loss(e_s, e_t)}
