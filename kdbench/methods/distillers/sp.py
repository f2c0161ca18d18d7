"""``sp``: images that are alike to the teacher are alike to the student.

L = CE(z_s, y) + w·‖Ĝ_t − Ĝ_s‖²_F / B², with w = 3000

G = A·Aᵀ (B, B) holds the inner products of the images' last stages, flattened to the rows of A, and Ĝ has
every row of G divided by its L2 norm. Weight of the paper and of the CIFAR-100 tables (CRD, ICLR 2020),
which take the last stage alone; the paper allows a sum over several. G does not depend on the number of
channels or positions, so nothing is pooled and there is no adapter; a transformer's class token is left out.

Ĝ stays the same when the features of either model are rotated or scaled.

Tung, Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019, arXiv 1907.09682.
"""

from __future__ import annotations

from kdbench.deferred import F, Tensor
from kdbench.methods.alignment import unit
from kdbench.methods.base import Batch, method
from kdbench.methods.combined import Combined
from kdbench.methods.quantities import Weight
from kdbench.models.shapes import Outputs, as_map


def similarities(features: Tensor) -> Tensor:
    """Return Ĝ (B, B): the inner products of features (B, D), each row divided by its L2 norm."""
    return unit(features @ features.T, 1)


def similarity_loss(f_s: Tensor, f_t: Tensor) -> Tensor:
    """Return ‖Ĝ_t − Ĝ_s‖²_F / B² of features (B, D), whose D may differ."""
    return F.mse_loss(similarities(f_s), similarities(f_t))


@method("sp", title="keep similarities between images", source="Tung and Mori, ICCV 2019", year=2019)
class SimilarityPreserving(Combined):
    """Squared error of the batch's row-normalised inner products, at the last stage."""

    class Parameters(Combined.Parameters):
        """Weight w of the term."""

        weight: Weight = 3000.0

    needs = frozenset({"logits", "stages"})
    targets = None

    def terms(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted term."""
        f_s, f_t = (as_map(outputs.stages[-1]).flatten(1) for outputs in (student, teacher))
        return {"similarity": self.hyper.weight * similarity_loss(f_s, f_t)}
