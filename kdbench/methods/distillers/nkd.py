"""``nkd``: the target as the teacher sees it, and the non-target classes normalised among themselves.

L = CE(z_s, y) − mean p_t,y·log p_s,y + γ·T²·mean H(p̂_t, p̂_s)

p is the softmax without a temperature; p̂ is the softmax of z/T over all classes but the target, and H the
cross-entropy. As the target term is no divergence, a student that equals its teacher is not at rest: the term
goes on raising p_s,y. The non-target term is at rest there, at the entropy of p̂_t.

Defaults γ = 1.5, T = 1, with which the authors give their results; the temperature acts on the non-target
classes only, as theirs does.

Yang et al., "From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with Normalized
Loss and Customized Soft Labels", ICCV 2023, arXiv 2303.13005.
"""

from __future__ import annotations

from kdbench.deferred import F, Tensor
from kdbench.methods.base import Batch, Pair, method
from kdbench.methods.combined import Combined
from kdbench.methods.distillers.dkd import require_non_target_classes, without_target
from kdbench.methods.quantities import Temperature, Weight
from kdbench.models.shapes import Outputs


def target_loss(student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
    """Return −p_t,y·log p_s,y (B,), in nats, of logits (B, K) and the target class (B,)."""
    p_teacher = F.softmax(teacher, dim=1).gather(1, target[:, None])
    log_p_student = F.log_softmax(student, dim=1).gather(1, target[:, None])
    return -(p_teacher * log_p_student).squeeze(1)


def non_target_loss(student: Tensor, teacher: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Return H(p̂_t, p̂_s) of each sample, in nats and without the factor T².

    Args:
        student: logits (B, K), K ≥ 3.
        teacher: logits (B, K), without gradient.
        target: class numbers (B,).
        temperature: T > 0.
    """
    p_teacher = F.softmax(without_target(teacher, target) / temperature, dim=1)
    log_p_student = F.log_softmax(without_target(student, target) / temperature, dim=1)
    return -(p_teacher * log_p_student).sum(1)


@method("nkd", title="normalised non-target classes", source="Yang et al., ICCV 2023", year=2023)
class NKD(Combined):
    """Normalised distillation by logits."""

    class Parameters(Combined.Parameters):
        """Weight γ of the non-target classes, and their temperature T."""

        gamma: Weight = 1.5
        temperature: Temperature = 1.0

    @classmethod
    def check(cls, hyper: Parameters, pair: Pair) -> None:
        """Refuse two classes."""
        require_non_target_classes(pair)

    def terms(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the target term and the weighted non-target term."""
        temperature = self.hyper.temperature
        own = target_loss(student.logits, teacher.logits, batch.target)
        others = non_target_loss(student.logits, teacher.logits, batch.target, temperature)
        return {"target": own.mean(), "non_target": self.hyper.gamma * temperature**2 * others.mean()}
