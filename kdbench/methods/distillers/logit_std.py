"""``logit_std``: plain KD on logits that are standardised in each sample, for both models.

L = 0.1·CE(z_s, y) + 9·T²·KL(softmax(Z(z_t)/T) ‖ softmax(Z(z_s)/T)), Z(z) = (z − mean z) / σ(z), T = 2

The student is free in the scale and shift of its logits and learns their relations only. The cross-entropy
takes the logits as they are.

Defaults of most CIFAR-100 pairs of the authors; T is 3 for a few, as vgg13 → vgg8. σ is the paper's, with K
below the sum (Algorithm 1). The authors' code has K − 1 there, which amounts to a temperature larger by
√(K/(K − 1)) in the softmax: half a percent for 100 classes, five for 10. It also adds 1e-7 to σ. Here a
σ below 1e-7 counts as equal logits, which are only centred; any other scale then drops out exactly.

Sun et al., "Logit Standardization in Knowledge Distillation", CVPR 2024, arXiv 2403.01427.
"""

from __future__ import annotations

from kdbench.deferred import Tensor, torch
from kdbench.methods.base import Batch, Pair, Refusal, method
from kdbench.methods.combined import Combined
from kdbench.methods.quantities import Temperature, Weight
from kdbench.models.shapes import Outputs
from kdbench.targets.single_label import soft_loss

EQUAL = 1e-7  # standard deviation up to which logits count as equal


def standardise(logits: Tensor) -> Tensor:
    """Return logits (B, K) with mean 0 and standard deviation 1 in each row; equal ones become zeros."""
    shifted = logits - logits[:, :1]  # exact for equal logits, whose computed mean may be off by rounding
    centred = shifted - shifted.mean(dim=1, keepdim=True)
    variance = centred.square().mean(dim=1, keepdim=True)
    return centred / torch.where(variance > EQUAL**2, variance, 1.0).sqrt()


@method("logit_std", title="standardised logits", source="Sun et al., CVPR 2024", year=2024)
class LogitStandardisation(Combined):
    """KD of standardised logits."""

    class Parameters(Combined.Parameters):
        """Weight of the standardised soft term, and its temperature T."""

        ce: Weight = 0.1
        weight: Weight = 9.0
        temperature: Temperature = 2.0

    @classmethod
    def check(cls, hyper: Parameters, pair: Pair) -> None:
        """Refuse two classes, where the soft term has no gradient."""
        if pair.num_classes < 3:
            raise Refusal(f"{pair.num_classes} classes have standardised logits of 1 and −1 for every image")

    def terms(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted soft term."""
        z_s, z_t = standardise(student.logits), standardise(teacher.logits)
        return {"logit_std": self.hyper.weight * soft_loss(z_s, z_t, self.hyper.temperature)}
