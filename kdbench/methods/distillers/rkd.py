"""``rkd``: the student keeps the distances and the angles between the images of a batch.

L = CE(z_s, y) + w_d·mean_{ij} h(d_s,ij − d_t,ij) + w_a·mean_{ijk} h(c_s,ijk − c_t,ijk), w_d = 25, w_a = 50

Of the pooled features f, d_ij = ‖f_i − f_j‖/μ, with μ the mean of the distances above 0 in the batch, and
c_ijk is the cosine of the angle at f_i between f_j and f_k. h is the smooth L1 loss: δ²/2 up to |δ| = 1,
|δ| − ½ beyond. Weights of the CIFAR-100 tables (CRD, ICLR 2020), which divide by all B² pairs and B³
triples, as done here; the paper takes distinct images only. A weight of 0 leaves its term out, which gives
the paper's variants by distance or by angle alone.

Both terms stay the same when the features of either model are rotated, shifted or scaled. The angles take
B³ and the differences B²·D numbers: 1 MiB and 8 MiB for B = 64 and D = 512, 64 MiB and 512 MiB for B = 256
and D = 2048.

Park, Kim, Lu, Cho, "Relational Knowledge Distillation", CVPR 2019, arXiv 1904.05068.
"""

from __future__ import annotations

from kdbench.deferred import F, Tensor, torch
from kdbench.methods.alignment import unit
from kdbench.methods.base import Batch, method
from kdbench.methods.combined import Combined
from kdbench.methods.quantities import Weight
from kdbench.models.shapes import Outputs


def differences(features: Tensor) -> Tensor:
    """Return f_j − f_i at place (i, j), (B, B, D), of features (B, D)."""
    return features.unsqueeze(0) - features.unsqueeze(1)


def relative_distances(features: Tensor) -> Tensor:
    """Return the distances (B, B) between features (B, D), divided by the mean of those above 0."""
    distances = torch.linalg.vector_norm(differences(features), dim=2)
    apart = distances > 0
    mean = distances.sum() / apart.sum().clamp(min=1)
    return distances / mean.masked_fill(~apart.any(), 1.0)


def angle_cosines(features: Tensor) -> Tensor:
    """Return the cosines (B, B, B) at (i, j, k) of the angle at f_i between f_j and f_k, of features (B, D).

    An angle with a side of length 0 has the cosine 0.
    """
    sides = unit(differences(features), 2)
    return sides @ sides.transpose(1, 2)


def distance_loss(f_s: Tensor, f_t: Tensor) -> Tensor:
    """Return the mean over B² of the smooth L1 loss of the relative distances of features (B, D)."""
    return F.smooth_l1_loss(relative_distances(f_s), relative_distances(f_t))


def angle_loss(f_s: Tensor, f_t: Tensor) -> Tensor:
    """Return the mean over B³ of the smooth L1 loss of the cosines of the angles of features (B, D)."""
    return F.smooth_l1_loss(angle_cosines(f_s), angle_cosines(f_t))


@method("rkd", title="keep distances and angles between images", source="Park et al., CVPR 2019", year=2019)
class RelationalKD(Combined):
    """Smooth L1 losses of the distances and of the angles between pooled features."""

    class Parameters(Combined.Parameters):
        """Weight w_d of the distances, weight w_a of the angles."""

        distance: Weight = 25.0
        angle: Weight = 50.0

    needs = frozenset({"logits", "pooled"})
    targets = None

    def terms(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted terms, as far as they have weight."""
        assert student.pooled is not None and teacher.pooled is not None
        terms = {}
        if self.hyper.distance:
            terms["distance"] = self.hyper.distance * distance_loss(student.pooled, teacher.pooled)
        if self.hyper.angle:
            terms["angle"] = self.hyper.angle * angle_loss(student.pooled, teacher.pooled)
        return terms
