"""``fitnet``: a regressor maps a feature of the student onto the teacher's (a "hint").

L = CE(z_s, y) + w·MSE(r(f_s), f_t), with w = 100

For stages, r is a 1×1 convolution, batch-norm and ReLU, and the larger map is pooled to the size of the
smaller; for the pooled feature, r is linear. ``layer`` counts the stages of both models from 1;
``layer: pooled`` takes the input of the last linear layer, which every kind of model has. The terms
are trained together, as in the CIFAR-100 tables (CRD, ICLR 2020, hint weight 100, second stage), not in
two phases as in the paper.

Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015, arXiv 1412.6550.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kdbench.methods import base
from kdbench.methods.base import Distiller, Pair, Refusal, cross_entropy, method
from kdbench.models.features import Outputs


@method("fitnet", title="regress the teacher's features", source="Romero et al., ICLR 2015", year=2015)
class FitNet(Distiller):
    """One hint: mean squared error of a regressed student feature."""

    class Parameters(base.Parameters):
        """Weight w of the hint, and the layer that it is taken from."""

        weight: float = Field(100.0, ge=0)
        layer: int | Literal["pooled"] = 2

    def __init__(self, hyper: Parameters, pair: Pair) -> None:
        """Build the regressor between the two features."""
        super().__init__(hyper, pair)
        if hyper.layer == "pooled":
            self.needs = frozenset({"logits", "pooled"})
            source, target = pair.student_shapes.pooled, pair.teacher_shapes.pooled
            assert source is not None and target is not None
            self.regressor: nn.Module = nn.Linear(source[0], target[0])
        else:
            self.needs = frozenset({"logits", "stages"})
            source = pair.student_shapes.stages[hyper.layer - 1]
            target = pair.teacher_shapes.stages[hyper.layer - 1]
            self.regressor = nn.Sequential(
                nn.Conv2d(source[0], target[0], 1, bias=False),
                nn.BatchNorm2d(target[0]),
                nn.ReLU(),
            )

    @classmethod
    def check(cls, hyper: Parameters, pair: Pair) -> None:
        """Refuse a pair that lacks the layer, or whose features are not both maps."""
        for role, shapes in (("teacher", pair.teacher_shapes), ("student", pair.student_shapes)):
            name = getattr(pair, role)
            if hyper.layer == "pooled":
                if shapes.pooled is None:
                    raise Refusal(f"{role} '{name}' has no pooled feature: its last layer is not linear")
            elif not 1 <= hyper.layer <= len(shapes.stages):
                count = len(shapes.stages)
                stages = f"has {count} stages" if count else "has no stages"
                raise Refusal(
                    f"{role} '{name}' {stages}, so there is no layer {hyper.layer}; try layer: pooled"
                )
            elif len(shapes.stages[hyper.layer - 1]) != 3:
                raise Refusal(
                    f"{role} '{name}' has tokens at layer {hyper.layer}, not maps; try layer: pooled"
                )

    def forward(
        self, student: Outputs, teacher: Outputs | None, target: Tensor, progress: float
    ) -> dict[str, Tensor]:
        """Return the cross-entropy and the weighted hint."""
        assert teacher is not None
        if self.hyper.layer == "pooled":
            assert student.pooled is not None and teacher.pooled is not None
            hint = F.mse_loss(self.regressor(student.pooled), teacher.pooled)
        else:
            index = self.hyper.layer - 1
            f_s, f_t = same_size(student.stages[index], teacher.stages[index])
            hint = F.mse_loss(self.regressor(f_s), f_t)
        return {"ce": cross_entropy(student, target), "hint": self.hyper.weight * hint}


def same_size(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Average-pool the larger of two maps (B, C, H, W) to the height and width of the smaller."""
    height = min(first.shape[2], second.shape[2])
    width = min(first.shape[3], second.shape[3])
    if first.shape[2:] != (height, width):
        first = F.adaptive_avg_pool2d(first, (height, width))
    if second.shape[2:] != (height, width):
        second = F.adaptive_avg_pool2d(second, (height, width))
    return first, second
