"""``simkd``: the student learns its teacher's last stage, and reuses the teacher's classifier.

L = w·MSE(P(f_s), f_t), with w = 1, on the last stages; at inference z = W_t·mean(P(f_s)) + b_t

P is a projector: 1×1, 3×3 and 1×1 convolutions, each followed by batch-norm and ReLU, with the teacher's
channels divided by ``factor`` = 2 between them, as in the authors' code. W_t and b_t are the teacher's last
linear layer, which does not train. There is no cross-entropy: ``ce`` is 0 by default. Of two stages of
different size the larger is pooled to the smaller, also at inference.

What trains in the student's place, and is evaluated, kept and measured, is its trunk, the projector and the
teacher's classifier; the student's own classifier is left out. ``ce`` and ``kd`` are of the logits that the
teacher's classifier gives of the projected stage.

Where the teacher's last stage is tokens, the projector's last ReLU is left out, since they have either sign.
The teacher's classifier must take the mean over its last stage. That their widths agree is checked; that
nothing else stands between them, such as a class token or a normalisation, cannot be seen from shapes.

Chen et al., "Knowledge Distillation with the Reused Teacher Classifier", CVPR 2022, arXiv 2203.14001.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdbench.deferred import F, Tensor
from kdbench.methods.alignment import map_shapes, require_classified_map, same_size
from kdbench.methods.base import Batch, Networks, Pair, method
from kdbench.methods.combined import Combined
from kdbench.methods.quantities import Side, Weight
from kdbench.models.shapes import FeatureShapes, Outputs

if TYPE_CHECKING:
    from kdbench.suite.schema import ModelEntry

FACTORY = "kdbench.models.reuse:build"


@method("simkd", title="reuse the teacher's classifier", source="Chen et al., CVPR 2022", year=2022)
class SimKD(Combined):
    """Squared error of the projected last stage; the teacher's classifier at inference."""

    class Parameters(Combined.Parameters):
        """Weight w of the error; by what the projector divides the teacher's channels."""

        ce: Weight = 0.0
        weight: Weight = 1.0
        factor: Side = 2

    needs = frozenset({"logits", "stages"})
    targets = None

    @classmethod
    def check(cls, hyper: Parameters, pair: Pair) -> None:
        """Refuse a teacher whose classifier does not fit its last stage."""
        require_classified_map(pair, "teacher")

    @classmethod
    def network(cls, hyper: Parameters, student: ModelEntry, teacher: ModelEntry) -> dict[str, Any]:
        """Return the factory of the student's trunk with projector and the teacher's classifier."""
        args: dict[str, Any] = {"student": student.name, "teacher": teacher.name, "factor": hyper.factor}
        for role, entry in (("student", student), ("teacher", teacher)):
            if entry.args:
                args[f"{role}_args"] = entry.args
            if entry.taps and entry.taps.stages:
                args[f"{role}_stage"] = entry.taps.stages[-1]
        return {"name": FACTORY, "args": args, "taps": {"stages": ("projector",), "pooled": "head"}}

    @classmethod
    def network_shapes(cls, hyper: Parameters, pair: Pair) -> FeatureShapes:
        """Return those of the teacher's last stage, in the smaller of both sizes."""
        (_, *mine), (channels, *theirs) = (map_shapes(pair, role)[-1] for role in ("student", "teacher"))
        stage = (channels, *map(min, mine, theirs))
        return FeatureShapes(pair.student_shapes.logits, pair.teacher_shapes.pooled, (stage,))

    def prepare(self, networks: Networks) -> None:
        """Put the teacher's classifier in, which does not train."""
        head = networks.heads["student"]
        head.load_state_dict(networks.heads["teacher"].state_dict())
        head.requires_grad_(False)

    def terms(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted error of the projected stage."""
        f_s, f_t = same_size(student.stages[-1], teacher.stages[-1])
        return {"feature": self.hyper.weight * F.mse_loss(f_s, f_t)}
