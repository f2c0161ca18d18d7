"""``simkd``: the student learns its teacher's last stage, and reuses the teacher's classifier.

L = w·MSE(P(f_s), f_t), with w = 1, on the last stages; at inference z = W_t·mean(P(f_s)) + b_t

P is a projector: 1×1, 3×3 and 1×1 convolutions, each followed by batch-norm and ReLU, with the teacher's
channels divided by ``factor`` = 2 between them, as in the authors' code. W_t and b_t are the teacher's last
linear layer, which does not train. There is no cross-entropy: ``ce`` is 0 by default. Of two stages of
different size the larger is pooled to the smaller, also at inference.

What is evaluated and kept is the student's trunk, the projector and the teacher's classifier, and so is
what its cost is measured on; the student's own classifier learns nothing and is dropped. With ``ce`` or
``kd`` it would learn, as an auxiliary loss, and still be dropped.

Where the teacher's last stage is tokens, the projector's last ReLU is left out, since they have either sign.
The teacher's classifier must take the mean over its last stage. That their widths agree is checked; that
nothing else stands between them, such as a class token or a normalisation, cannot be seen from shapes.

Chen et al., "Knowledge Distillation with the Reused Teacher Classifier", CVPR 2022, arXiv 2203.14001.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from kdbench.deferred import F, nn
from kdbench.methods.alignment import require_classified_map, same_size
from kdbench.methods.base import Batch, Networks, Pair, method
from kdbench.methods.combined import Combined
from kdbench.models.shapes import Outputs, Taps, as_map

if TYPE_CHECKING:
    from torch import Tensor

    from kdbench.suite.schema import ModelEntry

FACTORY = "kdbench.models.reuse:build"


@method("simkd", title="reuse the teacher's classifier", source="Chen et al., CVPR 2022", year=2022)
class SimKD(Combined):
    """Squared error of the projected last stage; the teacher's classifier at inference."""

    class Parameters(Combined.Parameters):
        """Weight w of the error; by what the projector divides the teacher's channels."""

        ce: float = Field(0.0, ge=0)
        weight: float = Field(1.0, ge=0)
        factor: int = Field(2, ge=1)

    needs = frozenset({"logits", "stages"})
    targets = None

    def __init__(self, hyper: Parameters, pair: Pair) -> None:
        """Build the projector between the last stages."""
        super().__init__(hyper, pair)
        from kdbench.models.reuse import projector

        self.projector = projector(
            pair.student_shapes.stages[-1], pair.teacher_shapes.stages[-1], hyper.factor
        )
        self.reused: tuple[nn.Linear, ...] = ()
        self.taps = Taps()

    @classmethod
    def check(cls, hyper: Parameters, pair: Pair) -> None:
        """Refuse a teacher whose classifier does not fit its last stage."""
        require_classified_map(pair, "teacher")

    @classmethod
    def deployed(
        cls, hyper: Parameters, student: ModelEntry, teacher: ModelEntry
    ) -> tuple[str, dict[str, Any]]:
        """Return the factory of the student's trunk with projector and the teacher's classifier."""
        args: dict[str, Any] = {"student": student.name, "teacher": teacher.name, "factor": hyper.factor}
        for role, entry in (("student", student), ("teacher", teacher)):
            if entry.args:
                args[f"{role}_args"] = entry.args
            if entry.taps and entry.taps.stages:
                args[f"{role}_stage"] = entry.taps.stages[-1]
        return FACTORY, args

    def prepare(self, networks: Networks) -> None:
        """Keep the teacher's classifier, and where the student's stages and its own classifier are."""
        self.reused = (networks.heads["teacher"],)
        self.taps = networks.taps["student"]

    def terms(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted error of the projected stage."""
        f_s, f_t = same_size(as_map(student.stages[-1]), as_map(teacher.stages[-1]))
        return {"feature": self.hyper.weight * F.mse_loss(self.projector(f_s), f_t)}

    def inference_model(self, student: nn.Module) -> nn.Module:
        """Return the student's trunk with the projector and the teacher's classifier."""
        from kdbench.models.reuse import ReusedClassifier, meeting_size

        (head,) = self.reused
        size = meeting_size(self.pair.student_shapes.stages[-1], self.pair.teacher_shapes.stages[-1])
        stage = self.taps.stages[-1]
        return ReusedClassifier(student, self.projector, head, size, own_head=self.taps.pooled, stage=stage)
