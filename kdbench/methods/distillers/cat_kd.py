"""``cat_kd``: the student attends to the same regions as the teacher, class by class.

L = CE(z_s, y) + β·mean_{b,k,x} (A_s − A_t)², A = pool(M)/‖pool(M)‖₂, M_k(x) = Σ_c W_kc·f_c(x)

M_k is the class activation map of class k: the last linear layer, without its bias, applied to every
position of the last stage as a 1×1 convolution. It is pooled to ``size`` × ``size`` positions and divided by
its norm over them. Pooling and convolution commute, so the stage is pooled first, which is cheaper. The
gradient reaches the student's stage and its linear layer, which takes part in the map. The authors train
the linear layer as that convolution, without a bias; here the models keep theirs.

The mean goes over images, classes and positions, as in the authors' code. Weight, size and normalisation of
their CIFAR-100 configurations differ a lot by pair. With normalisation: β = 40 for
ResNet50 → MobileNetV2 (the default here) and 15 for vgg13 → MobileNetV2, at 2 × 2; at 4 × 4, 600 for
resnet32x4 → ShuffleNetV1 and V2, and 80 for WRN-40-2 → ShuffleNetV1. Pairs of one family are
trained without it (``normalised: false``), at 2 × 2: 15 for resnet32x4 → resnet8x4, 12 for
WRN-40-2 → WRN-16-2, 1.5 for WRN-40-2 → WRN-40-1, 4.5 for vgg13 → vgg8, 0.7 for resnet56 → resnet20 and
1.8 for resnet110 → resnet32.

Guo et al., "Class Attention Transfer Based Knowledge Distillation", CVPR 2023, arXiv 2304.12777.
"""

from __future__ import annotations

from kdbench.deferred import F, Tensor, nn, torch
from kdbench.methods.alignment import ROLES, map_shapes, require_classified_map
from kdbench.methods.base import Batch, Networks, Pair, Refusal, method
from kdbench.methods.combined import Combined
from kdbench.methods.quantities import Side, Weight
from kdbench.models.shapes import Outputs, as_map

# Below this norm a map is taken as it is, in multiples of it, which bounds the gradient of an empty one.
SMALLEST_NORM = 1e-6


def activation_maps(stage: Tensor, weight: Tensor, size: int) -> Tensor:
    """Return the class activation maps (B, K, size²), pooled, of stages (B, C, H, W) and weights (K, C)."""
    pooled = F.adaptive_avg_pool2d(stage, size).flatten(2)
    return torch.einsum("kc,bcx->bkx", weight, pooled)


def attention_transfer(maps_s: Tensor, maps_t: Tensor, normalised: bool) -> Tensor:
    """Return the mean squared difference of class activation maps (B, K, X), of norm 1 if ``normalised``."""
    if normalised:
        maps_s, maps_t = (F.normalize(maps, dim=2, eps=SMALLEST_NORM) for maps in (maps_s, maps_t))
    return F.mse_loss(maps_s, maps_t)


@method("cat_kd", title="match the class activation maps", source="Guo et al., CVPR 2023", year=2023)
class ClassAttentionTransfer(Combined):
    """Squared error of pooled class activation maps."""

    class Parameters(Combined.Parameters):
        """Weight β of the maps, the side they are pooled to, and whether each is divided by its norm."""

        weight: Weight = 40.0
        size: Side = 2
        normalised: bool = True

    needs = frozenset({"logits", "stages"})

    def __init__(self, hyper: Parameters, pair: Pair) -> None:
        """Start without the linear layers, which ``prepare`` gives."""
        super().__init__(hyper, pair)
        self.heads: tuple[nn.Linear, ...] = ()

    @classmethod
    def check(cls, hyper: Parameters, pair: Pair) -> None:
        """Refuse a model whose last stage is not what it classifies, and normalised maps of one position."""
        for role in ROLES:
            require_classified_map(pair, role)
            _, height, width = map_shapes(pair, role)[-1]
            if hyper.normalised and min(hyper.size, max(height, width)) == 1:
                raise Refusal(
                    f"the class activation maps of {role} '{pair.name(role)}' are of one position, where "
                    "there is nothing to compare once they are normalised"
                )

    def prepare(self, networks: Networks) -> None:
        """Keep the linear layers of student and teacher."""
        self.heads = (networks.heads["student"], networks.heads["teacher"])

    def terms(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted difference of the maps."""
        mine, theirs = self.heads
        size = self.hyper.size
        maps_s = activation_maps(as_map(student.stages[-1]), mine.weight, size)
        maps_t = activation_maps(as_map(teacher.stages[-1]), theirs.weight.detach(), size)
        return {"maps": self.hyper.weight * attention_transfer(maps_s, maps_t, self.hyper.normalised)}
