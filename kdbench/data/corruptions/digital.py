"""What processing does to images: contrast, elastic distortion, pixelation, JPEG."""

from __future__ import annotations

from kdbench.data.corruptions.chance import Chance
from kdbench.data.corruptions.geometry import moved, pixels, smooth_field
from kdbench.data.corruptions.jpeg import quantised
from kdbench.data.corruptions.registry import CIFAR_10_C, corruption
from kdbench.deferred import Tensor, torch

# Elastic displacements are given at so many points along each side, and are smooth in between.
NODES = 6


@corruption(
    "contrast",
    title="less contrast",
    level="share of the contrast that is left",
    levels=(0.75, 0.5, 0.4, 0.3, 0.15),
    source=CIFAR_10_C,
)
def contrast(x: Tensor, level: float, chance: Chance) -> Tensor:
    """Return m + level · (x − m) with the mean m of each image's channel."""
    mean = x.mean(dim=(2, 3), keepdim=True)
    return mean + level * (x - mean)


@corruption(
    "elastic",
    title="stretched and squeezed like rubber",
    level="standard deviation of the displacement of the nodes in pixels, at 32 × 32",
    levels=(0.3, 0.5, 0.8, 1.1, 1.5),
    source="kdbench's own: smooth normal displacements of a 6 × 6 grid, no affine part",
)
def elastic(x: Tensor, level: float, chance: Chance) -> Tensor:
    """Return x with its pixels displaced by a smooth random field."""
    field = pixels(level, x) * smooth_field(chance.normal(2, NODES, NODES), x)
    return moved(x, field[:, 0], field[:, 1])


@corruption(
    "pixelate",
    title="fewer pixels, shown as squares",
    level="side of the small image, as a share",
    levels=(0.95, 0.9, 0.85, 0.75, 0.65),
    source=CIFAR_10_C,
)
def pixelate(x: Tensor, level: float, chance: Chance) -> Tensor:
    """Return x made smaller and large again, both by the box filter of Pillow."""
    for dimension in (2, 3):
        side = x.shape[dimension]
        small = max(1, int(level * side))
        resize = _box(side, small) @ _box(small, side)
        x = torch.tensordot(x, resize.to(x.device), dims=([dimension], [0])).movedim(-1, dimension)
    return x


def _box(source: int, target: int) -> Tensor:
    """Return the weights (source, target) by which a row is resized.

    A target pixel is the mean of the source pixels whose centres lie under it, or under as much as one
    source pixel around its centre where it is smaller than that.
    """
    scale = source / target
    centre = scale * (torch.arange(target, dtype=torch.float64) + 0.5)
    distance = (torch.arange(source, dtype=torch.float64) + 0.5)[:, None] - centre
    under = ((distance > -max(scale, 1) / 2) & (distance <= max(scale, 1) / 2)).float()
    return under / under.sum(dim=0)


@corruption(
    "jpeg",
    title="quantised as JPEG does it, without the lossless entropy coding",
    level="quality, on libjpeg's scale",
    levels=(80, 65, 58, 50, 40),
    source=f"{CIFAR_10_C}; ITU-T T.81",
)
def jpeg(x: Tensor, level: float, chance: Chance) -> Tensor:
    """Return x after the lossy steps of JPEG: 4:2:0 colour, cosine transform of 8 × 8, quantisation."""
    return quantised(255 * x, level) / 255
