"""``mgd``: from masked features of the student, the teacher's whole features are generated.

L = CE(z_s, y) + (w/N)·Σ (G(M ⊙ align(f_s)) − f_t)², with w = 7e-5, the sum over all elements, N images

M is 0 with probability ``mask_ratio`` = 0.15, so this share is masked, and 1 elsewhere, drawn anew for
every image and step; what is left is not scaled up. G is a 3×3 convolution, ReLU and a 3×3 convolution.
``align`` is a 1×1 convolution where the channels differ and nothing where they are equal. The last stages
meet.

Weight and share are those of the authors' classification on ImageNet. The paper masks positions, all
channels at once, and so does ``masked: positions``, the default; the authors' code for classification,
which these two values come from, masks whole channels of an image, which is ``masked: channels``. The
term is a sum over elements, so its weight means less for a smaller last stage.

Yang et al., "Masked Generative Distillation", ECCV 2022, arXiv 2205.01529.
"""

from __future__ import annotations

from typing import Literal

from kdbench.deferred import F, Tensor, nn, torch
from kdbench.methods.alignment import met_channels, same_size
from kdbench.methods.base import Batch, Pair, method
from kdbench.methods.combined import Combined
from kdbench.methods.quantities import Part, Weight
from kdbench.models.shapes import Outputs


def random_mask(features: Tensor, ratio: float, masked: Literal["positions", "channels"]) -> Tensor:
    """Return a mask of zeros, with probability ``ratio``, and ones for maps (B, C, H, W).

    Its shape is (B, 1, H, W) for positions and (B, C, 1, 1) for channels.
    """
    batch, channels, height, width = features.shape
    shape = (batch, 1, height, width) if masked == "positions" else (batch, channels, 1, 1)
    return (torch.rand(shape, device=features.device) >= ratio).to(features.dtype)


def generation_loss(generated: Tensor, target: Tensor) -> Tensor:
    """Return the squared error of maps (B, C, H, W), summed over elements, the mean over images."""
    return F.mse_loss(generated, target, reduction="sum") / len(target)


@method("mgd", title="generate features from masked ones", source="Yang et al., ECCV 2022", year=2022)
class MGD(Combined):
    """The last stage of the teacher, generated from that of the student."""

    class Parameters(Combined.Parameters):
        """Weight w of the term, the share that is masked, and what a mask hides."""

        weight: Weight = 7e-5
        mask_ratio: Part = 0.15
        masked: Literal["positions", "channels"] = "positions"

    needs = frozenset({"logits", "stages"})
    targets = None

    def __init__(self, hyper: Parameters, pair: Pair) -> None:
        """Build the alignment and the generation block between the last stages."""
        super().__init__(hyper, pair)
        inputs, outputs = met_channels(pair)[-1]
        self.align = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        self.generation = nn.Sequential(
            nn.Conv2d(outputs, outputs, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1),
        )

    def terms(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted error of what is generated."""
        f_s, f_t = same_size(student.stages[-1], teacher.stages[-1])
        aligned = self.align(f_s)
        mask = random_mask(aligned, self.hyper.mask_ratio, self.hyper.masked)
        return {"generation": self.hyper.weight * generation_loss(self.generation(mask * aligned), f_t)}
