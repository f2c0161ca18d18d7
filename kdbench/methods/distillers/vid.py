"""``vid``: the student's stages predict the teacher's as the mean of a Gaussian, whose variance is learned.

L = CE(z_s, y) + w·Σ_stages mean ½·[(μ(f_s) − f_t)²/σ_c² + log σ_c²], with w = 1

To lower the sum is to raise a lower bound of the mutual information of the stages. The mean goes over
images, channels and positions; σ_c² = softplus(ρ_c) + 1e-5 is one variance a channel of the teacher, 5 at
the start (weight and start of the CIFAR-100 tables, CRD, ICLR 2020). The term is a negative log-likelihood
without its constant, so it falls below zero where the prediction is good.

All stages that meet take part. μ is three 1×1 convolutions with as many channels as the teacher's stage,
batch-norm and ReLU between them and nothing after the last, because a mean may have either sign; CRD's
code has no batch-norm there. The variances are parameters that train with the student: where they stay at
their first value, as in some public code, only a mean squared error remains.

Ahn et al., "Variational Information Distillation for Knowledge Transfer", CVPR 2019, arXiv 1904.05835.
"""

from __future__ import annotations

import math

from pydantic import Field

from kdbench.deferred import F, Tensor, nn, torch
from kdbench.methods.alignment import convolution, met_channels, met_stages
from kdbench.methods.base import Batch, Pair, method
from kdbench.methods.combined import Combined
from kdbench.methods.quantities import Weight
from kdbench.models.shapes import Outputs

FLOOR = 1e-5


def variance(raw: Tensor) -> Tensor:
    """Return the variances softplus(ρ) + 1e-5 (C,) of raw parameters ρ (C,)."""
    return F.softplus(raw) + FLOOR


def raw_variance(value: float) -> float:
    """Return the raw parameter whose variance is ``value`` > 1e-5."""
    above = value - FLOOR
    return above + math.log(-math.expm1(-above))


def gaussian_loss(mean: Tensor, target: Tensor, variances: Tensor) -> Tensor:
    """Return the mean of ½·[(μ − f_t)²/σ_c² + log σ_c²], in nats an element up to a constant.

    Args:
        mean: predicted means (B, C, H, W).
        target: features of the teacher (B, C, H, W), without gradient.
        variances: σ_c² > 0 (C,).
    """
    spread = variances.view(1, -1, 1, 1)
    return 0.5 * ((mean - target) ** 2 / spread + spread.log()).mean()


@method("vid", title="likelihood of the teacher's features", source="Ahn et al., CVPR 2019", year=2019)
class VID(Combined):
    """One Gaussian a stage that meets: a regressor for its mean, a variance a channel."""

    class Parameters(Combined.Parameters):
        """Weight w of the likelihoods, and the variance of every channel before the first step."""

        weight: Weight = 1.0
        initial_variance: float = Field(5.0, ge=0.01, le=1000)

    needs = frozenset({"logits", "stages"})
    targets = None

    def __init__(self, hyper: Parameters, pair: Pair) -> None:
        """Build a regressor and the variances of every stage that meets."""
        super().__init__(hyper, pair)
        channels = met_channels(pair)
        self.regressors = nn.ModuleList(_regressor(source, target) for source, target in channels)
        raw = raw_variance(hyper.initial_variance)
        self.raw_variances = nn.ParameterList(
            nn.Parameter(torch.full((target,), raw)) for _, target in channels
        )

    def terms(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted sum of the stages' negative log-likelihoods."""
        stages = met_stages(self.pair, student, teacher)
        likelihoods = [
            gaussian_loss(regressor(f_s), f_t, variance(raw))
            for (f_s, f_t), regressor, raw in zip(stages, self.regressors, self.raw_variances, strict=True)
        ]
        return {"likelihood": self.hyper.weight * torch.stack(likelihoods).sum()}


def _regressor(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        *convolution(inputs, outputs),
        nn.ReLU(),
        *convolution(outputs, outputs),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 1),
    )
