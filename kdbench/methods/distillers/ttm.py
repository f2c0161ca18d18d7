"""``ttm``: only the teacher is softened; the student matches it without a temperature.

L = CE(z_s, y) + w·mean KL(p_t^γ / Σ_k p_t,k^γ ‖ p_s), γ = 1/T

p is the softmax without a temperature, and the normalised power of p_t is softmax(z_t/T), which is how it is
computed here. There is no factor T²: the gradient of the divergence is p_s − softmax(z_t/T), for every T. It
is at rest at z_s = z_t/T, a student much less sure than its teacher. Compared with KD, it also rewards the
student's Rényi entropy of order γ: H(q_t, p_s) = T·H(q_t, q_s) − (T − 1)·H_γ(p_s), with q = softmax(z/T).

The authors tune γ and w for each pair (CIFAR-100, 100 classes). Default: γ = 0.2 and w = 8, as they have them
for resnet110 → resnet20 in their Table 8, a temperature in the middle of those listed; which pair to take is
our choice. The others there have γ = 0.1 with w from 33 to 101, or γ = 0.3 with w = 7 (resnet56 → resnet20).

Zheng, Yang, "Knowledge Distillation Based on Transformed Teacher Matching", ICLR 2024, arXiv 2402.11148.
"""

from __future__ import annotations

from kdbench.deferred import F, Tensor
from kdbench.methods.base import Batch, method
from kdbench.methods.combined import Combined
from kdbench.methods.quantities import Temperature, Weight
from kdbench.models.shapes import Outputs


def transformed_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return KL(softmax(z_t/T) ‖ softmax(z_s)) of each sample (B,), in nats.

    Args:
        student: logits (B, K).
        teacher: logits (B, K), without gradient.
        temperature: T > 0, of the teacher only.
    """
    log_p_student = F.log_softmax(student, dim=1)
    log_p_teacher = F.log_softmax(teacher / temperature, dim=1)
    return F.kl_div(log_p_student, log_p_teacher, reduction="none", log_target=True).sum(1)


@method("ttm", title="temperature on the teacher only", source="Zheng and Yang, ICLR 2024", year=2024)
class TTM(Combined):
    """Matching of the transformed teacher."""

    class Parameters(Combined.Parameters):
        """Weight w of the divergence, and the temperature T = 1/γ of the teacher."""

        weight: Weight = 8.0
        temperature: Temperature = 5.0

    @classmethod
    def soft_temperature(cls, hyper: Parameters) -> float | None:
        """Return the T of the teacher, or of plain kd."""
        return hyper.temperature if hyper.weight else super().soft_temperature(hyper)

    def terms(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted divergence."""
        divergence = transformed_divergence(student.logits, teacher.logits, self.hyper.temperature)
        return {"ttm": self.hyper.weight * divergence.mean()}
