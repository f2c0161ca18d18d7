"""``ft``: the student's features are translated into factors that paraphrase the teacher's.

First stage: L = CE(z_s, y) + MSE(D(E(f_t)), f_t), which trains the paraphraser (E, D) on the teacher.
Then: L = CE(z_s, y) + w·mean |F̂_s − F̂_t|, F_t = E(f_t), F_s = the translator's output for f_s,
F̂ = F/‖F‖₂ of each image's factors as one vector, with w = 500

The factors have k = 0.5 times the teacher's channels; the mean goes over images and entries of the
factors. The weight is that of the authors' code for this form. The 200 of the CIFAR-100 tables (CRD, ICLR
2020) stands before another one, of factors squared and averaged over their channels first. The last
stages meet.

The paper trains the paraphraser beforehand, so that the student learns from factors from its first step.
Here it learns in the first stage, the share ``first_stage`` of the training (by default 30 of 240 epochs,
so that it scales with short recipes), while the student learns from the cross-entropy. The
reconstruction sends the student no gradient and costs it no extra step, only the factors at the start
(with ``clip_norm`` its gradient counts in the norm that both share).
Afterwards the paraphraser is frozen, with its batch-norm statistics.

E and the translator are three 3×3 convolutions, each with batch-norm and leaky ReLU of slope 0.1; public
code leaves batch-norm out of the paraphraser. D is three transposed ones, the last without batch-norm and
leaky ReLU, so that it can reach any value.

Kim, Park, Kwak, "Paraphrasing Complex Network: Network Compression via Factor Transfer", NeurIPS 2018,
arXiv 1802.04977.
"""

from __future__ import annotations

from itertools import pairwise

from pydantic import Field

from kdbench.deferred import F, Tensor, nn, torch
from kdbench.methods.alignment import met_channels, same_size
from kdbench.methods.base import Batch, Pair, method
from kdbench.methods.combined import Combined
from kdbench.methods.quantities import ProperShare, Weight
from kdbench.models.shapes import Outputs

SLOPE = 0.1
SMALLEST_NORM = 1e-6


def factor_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean of |F̂_s − F̂_t| over images and entries, of factors (B, C, H, W) of length 1 each."""
    first, second = (F.normalize(factor.flatten(1), eps=SMALLEST_NORM) for factor in (student, teacher))
    return (first - second).abs().mean()


@method("ft", title="factors that paraphrase features", source="Kim et al., NeurIPS 2018", year=2018)
class FT(Combined):
    """A paraphraser learns in the first stage; a translator of the student then meets its factors."""

    class Parameters(Combined.Parameters):
        """Weight w of the factors, their rate k, and the share of the training that the paraphraser has."""

        weight: Weight = 500.0
        rate: float = Field(0.5, gt=0, le=4)
        first_stage: ProperShare = 0.125

    needs = frozenset({"logits", "stages"})
    targets = None

    def __init__(self, hyper: Parameters, pair: Pair) -> None:
        """Build the paraphraser of the teacher's last stage and the translator of the student's."""
        super().__init__(hyper, pair)
        source, target = met_channels(pair)[-1]
        factors = max(1, round(hyper.rate * target))
        self.encoder = _convolutions(target, target, factors, factors)
        self.decoder = nn.Sequential(
            *_layer(nn.ConvTranspose2d, factors, factors),
            *_layer(nn.ConvTranspose2d, factors, target),
            nn.ConvTranspose2d(target, target, 3, padding=1),
        )
        self.translator = _convolutions(source, source, factors, factors)

    def terms(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the paraphraser's reconstruction in the first stage, the weighted factor term afterwards."""
        f_s, f_t = same_size(student.stages[-1], teacher.stages[-1])
        if batch.progress < self.hyper.first_stage:
            return {"reconstruction": F.mse_loss(self.decoder(self.encoder(f_t)), f_t)}
        self.encoder.eval()  # every epoch begins with all adapters in training mode
        with torch.no_grad():
            factor = self.encoder(f_t)
        return {"factor": self.hyper.weight * factor_loss(self.translator(f_s), factor)}


def _layer(convolution: type[nn.Module], inputs: int, outputs: int) -> list[nn.Module]:
    return [
        convolution(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(SLOPE),
    ]


def _convolutions(*channels: int) -> nn.Module:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(channels):
        layers += _layer(nn.Conv2d, inputs, outputs)
    return nn.Sequential(*layers)
