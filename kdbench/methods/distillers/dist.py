"""``dist``: the student's probabilities correlate with the teacher's, along classes and along the batch.

L = CE(z_s, y) + T²·[β·mean_i (1 − ρ(s_i·, t_i·)) + γ·mean_k (1 − ρ(s_·k, t_·k))]

s and t are softmax(z/T) of a batch (B, K), ρ is Pearson's correlation: of one sample's K classes (the
relation between classes) and of one class's B samples (the relation within a class). ρ ignores a shift and a
positive scale of either side. So a student that is mixed with the uniform distribution, s ← a·s + (1 − a)/K,
loses nothing; one whose logits are scaled does.

Defaults of the CIFAR-100 tables: T = 4, β = γ = 2. With two classes the relation between classes is only a
sign, 1 or −1, and all that is learnt is learnt along the batch.

ρ has no value where one side is constant: for the only sample of a batch, or for equal logits. It counts as
0 there, without gradient. Public code adds 1e-8 to the product of the norms instead, which also weakens the
classes that all samples find improbable; here each row and column is divided by its largest entry, which ρ
ignores, before the test for a constant, so that no probability is too small to be compared.

Huang et al., "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022, arXiv 2205.10536.
"""

from __future__ import annotations

from kdbench.deferred import F, Tensor, torch
from kdbench.methods.base import Batch, method
from kdbench.methods.combined import Combined
from kdbench.methods.quantities import Temperature, Weight
from kdbench.models.shapes import Outputs

CONSTANT = 1e-12  # variance that rounding in float32 gives equal entries of about one


def correlation(first: Tensor, second: Tensor, dim: int) -> Tensor:
    """Return Pearson's correlation along ``dim``; 0, without gradient, where one side is constant.

    Args:
        first: entries of which the largest along ``dim`` is about one.
        second: as ``first``, of the same shape.
        dim: the dimension that the result no longer has.
    """
    first = first - first.mean(dim, keepdim=True)
    second = second - second.mean(dim, keepdim=True)
    first_variance, second_variance = first.square().mean(dim), second.square().mean(dim)
    defined = (first_variance > CONSTANT) & (second_variance > CONSTANT)
    scale = torch.where(defined, first_variance * second_variance, 1.0).sqrt()
    return torch.where(defined, (first * second).mean(dim), 0.0) / scale


def relation_loss(student: Tensor, teacher: Tensor, temperature: float, dim: int) -> Tensor:
    """Return T²·mean (1 − ρ) of the probabilities along ``dim``: 1 for classes, 0 for samples.

    Args:
        student: logits (B, K).
        teacher: logits (B, K), without gradient.
        temperature: T > 0.
        dim: the dimension that is correlated.
    """

    def relative(logits: Tensor) -> Tensor:
        log_p = F.log_softmax(logits / temperature, dim=1)
        return (log_p - log_p.detach().amax(dim, keepdim=True)).exp()

    return temperature**2 * (1 - correlation(relative(student), relative(teacher), dim)).mean()


@method("dist", title="correlation of probabilities", source="Huang et al., NeurIPS 2022", year=2022)
class DIST(Combined):
    """Correlation between and within classes."""

    class Parameters(Combined.Parameters):
        """Weights β of the relation between classes and γ of that within a class; their temperature T."""

        beta: Weight = 2.0
        gamma: Weight = 2.0
        temperature: Temperature = 4.0

    @classmethod
    def soft_temperature(cls, hyper: Parameters) -> float | None:
        """Return the T of the two relations, or of plain kd."""
        return hyper.temperature if hyper.beta or hyper.gamma else super().soft_temperature(hyper)

    def terms(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the two weighted relations."""
        temperature = self.hyper.temperature
        between = relation_loss(student.logits, teacher.logits, temperature, dim=1)
        within = relation_loss(student.logits, teacher.logits, temperature, dim=0)
        return {"between_classes": self.hyper.beta * between, "within_classes": self.hyper.gamma * within}
