"""``fitnet``: a regressor maps a feature of the student onto the teacher's (a "hint").

L = CE(z_s, y) + w·MSE(r(f_s), f_t), with w = 100

For stages, r is a 1×1 convolution, batch-norm and ReLU (left out for a transformer's tokens, which have
either sign), and the larger map is pooled to the size of the smaller; for the pooled feature, r is
linear. ``layer`` counts the stages that meet from 1; ``layer: pooled`` takes the input of the last linear
layer, which every kind of model has. The terms are trained together, as in the CIFAR-100 tables (CRD,
ICLR 2020, hint weight 100, second stage), not in two phases as in the paper.

Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015, arXiv 1412.6550.
"""

from __future__ import annotations

from typing import Literal

from kdbench.deferred import F, Tensor, nn
from kdbench.methods.alignment import convolution, met_channels, require_stages, same_size, stage_pairs
from kdbench.methods.base import Batch, Pair, Refusal, method
from kdbench.methods.combined import Combined
from kdbench.methods.quantities import Place, Weight
from kdbench.models.shapes import Outputs


@method("fitnet", title="regress the teacher's features", source="Romero et al., ICLR 2015", year=2015)
class FitNet(Combined):
    """One hint: mean squared error of a regressed student feature."""

    class Parameters(Combined.Parameters):
        """Weight w of the hint, and the layer that it is taken from."""

        weight: Weight = 100.0
        layer: Place | Literal["pooled"] = 2

    needs = frozenset({"logits", "stages"})
    targets = None

    def __init__(self, hyper: Parameters, pair: Pair) -> None:
        """Build the regressor between the two features."""
        super().__init__(hyper, pair)
        if hyper.layer == "pooled":
            self.needs = self.requires(hyper)
            source, target = pair.student_shapes.pooled, pair.teacher_shapes.pooled
            assert source is not None and target is not None
            self.regressor: nn.Module = nn.Linear(source[0], target[0])
        else:
            self.places = stage_pairs(pair)[hyper.layer - 1]
            layers = [*convolution(*met_channels(pair)[hyper.layer - 1]), nn.ReLU()]
            tokens = len(pair.teacher_shapes.stages[self.places[1]]) == 2
            self.regressor = nn.Sequential(*(layers[:-1] if tokens else layers))

    @classmethod
    def requires(cls, hyper: Parameters) -> frozenset[str]:
        """Return the pooled feature where it is the layer; ``check`` says what another one lacks."""
        return frozenset({"logits", "pooled"} if hyper.layer == "pooled" else {"logits"})

    @classmethod
    def check(cls, hyper: Parameters, pair: Pair) -> None:
        """Refuse a pair that lacks the stage."""
        if hyper.layer == "pooled":
            return
        try:
            require_stages(pair)
        except Refusal as refusal:
            raise Refusal(f"{refusal}, so there is no layer {hyper.layer}; try layer: pooled") from None
        count = len(stage_pairs(pair))
        if not 1 <= hyper.layer <= count:
            raise Refusal(
                f"teacher '{pair.teacher}' and student '{pair.student}' have {count} stages that meet, "
                f"so there is no layer {hyper.layer}; try layer: pooled"
            )

    def terms(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted hint."""
        if self.hyper.layer == "pooled":
            assert student.pooled is not None and teacher.pooled is not None
            hint = F.mse_loss(self.regressor(student.pooled), teacher.pooled)
        else:
            mine, theirs = self.places
            f_s, f_t = same_size(student.stages[mine], teacher.stages[theirs])
            hint = F.mse_loss(self.regressor(f_s), f_t)
        return {"hint": self.hyper.weight * hint}
