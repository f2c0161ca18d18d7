"""``reviewkd``: every stage of the teacher is taught to the student's stage together with its deeper ones.

L = CE(z_s, y) + r·w·Σ_levels HCL(g, f_t), with w = 5

From the deepest level to the first, the student's feature is mapped to a common width by a 1×1 convolution
and batch-norm (x), and fused with what came from the level below, resized (y): x ← a·x + b·y, where the
attention maps a and b are the sigmoid of a 1×1 convolution of both. A 3×3 convolution and batch-norm map x,
resized to the teacher's stage, to its channels (g); x itself goes up to the next level. Maps are
resized to the nearest neighbour.

HCL(g, f_t) = [MSE(g, f_t) + Σ_{l = 4, 2, 1} 2^−j·MSE(pool_l(g), pool_l(f_t))]/(1 + Σ 2^−j), where only those
l count that are smaller than the map, and j = 1, 2, … numbers them; pool_l averages to l × l positions.

The levels are the stages that meet and, where both models have one, the pooled feature as the deepest, a
map of one position, as in the authors' CIFAR-100 configurations. ``width`` is by default that of the
student's deepest level, at most 512, as theirs. Their weights: 5, but 8 for ShuffleNetV2, 0.6 for resnet56 →
resnet20 and 1 for resnet110 → resnet32. The ramp r rises from 0 to 1 over the first 20 of their 240
epochs, here over the same share of the training, by its progress. What goes up to the next level has the
student's resolution here, whatever the teacher's. The authors take the teacher's stages before their last
ReLU; here they are as tapped, behind it, so their weights were tuned on somewhat larger differences.

Chen et al., "Distilling Knowledge via Knowledge Review", CVPR 2021, arXiv 2104.09044.
"""

from __future__ import annotations

from collections.abc import Sequence

from kdbench.deferred import F, Tensor, nn, torch
from kdbench.methods.alignment import convolution, map_shapes, stage_pairs
from kdbench.methods.base import Batch, Pair, method
from kdbench.methods.combined import Combined
from kdbench.methods.quantities import Share, Weight, Width
from kdbench.models.shapes import Outputs, Shape, as_map

WIDEST = 512
SIDES = (4, 2, 1)


def levels(pair: Pair) -> list[tuple[Shape, Shape]]:
    """Return the shapes (C, H, W) that meet, as (student, teacher), from the first level to the deepest."""
    students, teachers = map_shapes(pair, "student"), map_shapes(pair, "teacher")
    shapes = [(students[mine], teachers[theirs]) for mine, theirs in stage_pairs(pair)]
    mine, theirs = pair.student_shapes.pooled, pair.teacher_shapes.pooled
    if mine is not None and theirs is not None:
        shapes.append(((mine[0], 1, 1), (theirs[0], 1, 1)))
    return shapes


def hierarchical_loss(g: Tensor, f_t: Tensor) -> Tensor:
    """Return HCL: the mean squared error of maps (B, C, H, W) as they are and pooled to fewer positions."""
    loss, share, total = F.mse_loss(g, f_t), 1.0, 1.0
    for side in SIDES:
        if side < min(g.shape[2:]):
            share /= 2
            pooled = F.mse_loss(F.adaptive_avg_pool2d(g, side), F.adaptive_avg_pool2d(f_t, side))
            loss = loss + share * pooled
            total += share
    return loss / total


def resized(x: Tensor, size: Sequence[int]) -> Tensor:
    """Return maps (B, C, H, W) at another height and width, by nearest neighbour."""
    return x if list(x.shape[2:]) == list(size) else F.interpolate(x, size=tuple(size), mode="nearest")


@method("reviewkd", title="review shallow stages with deep ones", source="Chen et al., CVPR 2021", year=2021)
class ReviewKD(Combined):
    """The student's stages, fused from deep to shallow, against the teacher's."""

    class Parameters(Combined.Parameters):
        """Weight w of the levels, the share of the training in which it rises, and the common width."""

        weight: Weight = 5.0
        warmup: Share = 20 / 240
        width: Width | None = None

    needs = frozenset({"logits", "pooled", "stages"})
    targets = None

    def __init__(self, hyper: Parameters, pair: Pair) -> None:
        """Build the maps to the common width, the attention of all levels but the deepest, the maps out."""
        super().__init__(hyper, pair)
        shapes = levels(pair)
        width = hyper.width or min(WIDEST, shapes[-1][0][0])
        self.sizes = [theirs[1:] for _, theirs in shapes]
        self.inward = nn.ModuleList(convolution(mine[0], width) for mine, _ in shapes)
        self.attention = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2 * width, 2, 1), nn.Sigmoid()) for _ in shapes[:-1]
        )
        self.outward = nn.ModuleList(convolution(width, theirs[0], 3) for _, theirs in shapes)

    @classmethod
    def requires(cls, hyper: Parameters) -> frozenset[str]:
        """Return what it needs but for the pooled feature, which it reviews where both models have one."""
        return cls.needs - {"pooled"}

    def review(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return the student's maps in the teacher's shapes, both from the first level to the deepest."""
        below = None
        reviewed = []
        for place in reversed(range(len(features))):
            x = self.inward[place](features[place])
            if below is not None:
                y = resized(below, x.shape[2:])
                a, b = self.attention[place](torch.cat([x, y], dim=1)).split(1, dim=1)
                x = a * x + b * y
            below = x
            reviewed.append(self.outward[place](resized(x, self.sizes[place])))
        return reviewed[::-1]

    def terms(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted sum over the levels."""
        places = stage_pairs(self.pair)
        f_s = [as_map(student.stages[mine]) for mine, _ in places]
        f_t = [as_map(teacher.stages[theirs]) for _, theirs in places]
        if len(self.sizes) > len(places):
            assert student.pooled is not None and teacher.pooled is not None
            f_s.append(student.pooled[:, :, None, None])
            f_t.append(teacher.pooled[:, :, None, None])
        losses = [hierarchical_loss(g, f) for g, f in zip(self.review(f_s), f_t, strict=True)]
        ramp = min(batch.progress / self.hyper.warmup, 1.0) if self.hyper.warmup else 1.0
        return {"review": ramp * self.hyper.weight * torch.stack(losses).sum()}
