"""``dkd``: the softened divergence is split at the target class, and its parts weighted apart.

L = CE(z_s, y) + r·T²·[α·TCKD + β·NCKD]

TCKD = KL(b_t ‖ b_s) with b = (p_y, 1 − p_y), p = softmax(z/T); NCKD = KL(p̂_t ‖ p̂_s) with p̂ the softmax over
all classes but the target. Plain KD is TCKD + (1 − p_t,y)·NCKD: a sure teacher silences its own non-target
classes there, and β takes the place of that factor here.

Defaults of the CIFAR-100 tables: α = 1, T = 4. The authors set β for each pair, and 8 is their default: 8 for
all students of resnet32x4, ResNet50 → MobileNetV2 and WRN-40-2 → ShuffleNetV1; 6 for students of vgg13 and
WRN-40-2 → WRN; 2 for resnet56 → resnet20 and resnet110 → resnet32. The ramp r rises from 0 to 1 over the
first 20 of their 240 epochs, epoch by epoch; here over the same share of the training, by its progress. The
target is left out by index here, not masked by a large number, so that no size of logits lets it back in.

Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022, arXiv 2203.08679.
"""

from __future__ import annotations

from kdbench.deferred import F, Tensor, torch
from kdbench.methods.base import Batch, Pair, Refusal, method
from kdbench.methods.combined import Combined
from kdbench.methods.quantities import Share, Temperature, Weight
from kdbench.models.shapes import Outputs


def without_target(values: Tensor, target: Tensor) -> Tensor:
    """Return the entries (B, K − 1) of ``values`` (B, K) that are not at the target class (B,), in order."""
    others = torch.arange(values.shape[1] - 1, device=values.device)
    return values.gather(1, others + (others >= target[:, None]).long())


def target_and_rest(logits: Tensor, target: Tensor) -> Tensor:
    """Return log (p_y, 1 − p_y) (B, 2) of logits (B, K) and the target class (B,)."""
    log_p = F.log_softmax(logits, dim=1)
    log_rest = without_target(log_p, target).logsumexp(dim=1, keepdim=True)
    return torch.cat([log_p.gather(1, target[:, None]), log_rest], dim=1)


def decoupled(student: Tensor, teacher: Tensor, target: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return TCKD and NCKD of each sample, in nats and without the factor T².

    Args:
        student: logits (B, K), K ≥ 3.
        teacher: logits (B, K), without gradient.
        target: class numbers (B,).
        temperature: T > 0.
    """
    student, teacher = student / temperature, teacher / temperature
    binary = F.kl_div(
        target_and_rest(student, target),
        target_and_rest(teacher, target),
        reduction="none",
        log_target=True,
    )
    others = F.kl_div(
        F.log_softmax(without_target(student, target), dim=1),
        F.log_softmax(without_target(teacher, target), dim=1),
        reduction="none",
        log_target=True,
    )
    return binary.sum(1), others.sum(1)


def require_non_target_classes(pair: Pair) -> None:
    """Refuse a task where only one class is left without the target."""
    if pair.num_classes < 3:
        raise Refusal(f"{pair.num_classes} classes leave no non-target distribution")


@method(
    "dkd", title="target and non-target classes weighted apart", source="Zhao et al., CVPR 2022", year=2022
)
class DKD(Combined):
    """Decoupled distillation by logits."""

    class Parameters(Combined.Parameters):
        """Weights α of TCKD and β of NCKD, their temperature T, and the share of the training with a ramp."""

        alpha: Weight = 1.0
        beta: Weight = 8.0
        temperature: Temperature = 4.0
        warmup: Share = 20 / 240

    @classmethod
    def check(cls, hyper: Parameters, pair: Pair) -> None:
        """Refuse two classes."""
        require_non_target_classes(pair)

    @classmethod
    def soft_temperature(cls, hyper: Parameters) -> float | None:
        """Return the T of the two parts, or of plain kd."""
        return hyper.temperature if hyper.alpha or hyper.beta else super().soft_temperature(hyper)

    def terms(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the two weighted parts."""
        hyper = self.hyper
        tckd, nckd = decoupled(student.logits, teacher.logits, batch.target, hyper.temperature)
        ramp = min(batch.progress / hyper.warmup, 1.0) if hyper.warmup else 1.0
        scale = ramp * hyper.temperature**2
        return {"tckd": scale * hyper.alpha * tckd.mean(), "nckd": scale * hyper.beta * nckd.mean()}
