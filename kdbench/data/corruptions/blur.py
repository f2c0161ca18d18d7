"""Blur: light of one point is spread over several pixels. Lengths are pixels of a 32 × 32 image."""

from __future__ import annotations

import math

from kdbench.data.corruptions.chance import Chance
from kdbench.data.corruptions.geometry import moved, pixels
from kdbench.data.corruptions.registry import corruption
from kdbench.deferred import F, Tensor, torch

# Points a pixel, along each axis, at which the disc of defocus is sampled.
FINENESS = 16


@corruption(
    "defocus_blur",
    title="out of focus: each point becomes a disc",
    level="radius of the disc in pixels, at 32 × 32",
    levels=(0.8, 1.0, 1.3, 1.7, 2.2),
    source="kdbench's own levels; a disc as in CIFAR-10-C, but of exact area and not smoothed",
)
def defocus_blur(x: Tensor, level: float, chance: Chance) -> Tensor:
    """Return x convolved with a disc; beyond its border an image goes on as it ends."""
    # In float64, which GPUs do not shorten: convolutions in float32 they may compute with ten bits.
    kernel = disc(pixels(level, x)).double().to(x.device)
    batch, channels, height, width = x.shape
    margin = len(kernel) // 2
    padded = F.pad(x.double(), (margin, margin, margin, margin), mode="replicate")
    planes = padded.reshape(batch * channels, 1, height + 2 * margin, width + 2 * margin)
    return F.conv2d(planes, kernel[None, None]).reshape(x.shape).to(x.dtype)


def disc(radius: float) -> Tensor:
    """Return the share of a disc that falls on each pixel around its centre, a square that sums to 1."""
    half = math.ceil(radius - 0.5)
    side = 2 * half + 1
    points = (torch.arange(side * FINENESS) + 0.5) / FINENESS - side / 2
    inside = (points[:, None] ** 2 + points[None, :] ** 2 <= radius**2).float()
    area = F.avg_pool2d(inside[None, None], FINENESS)[0, 0]
    return area / area.sum()


@corruption(
    "motion_blur",
    title="the camera moved along a line",
    level="length of the line in pixels, at 32 × 32",
    levels=(2.0, 3.0, 4.5, 6.5, 9.0),
    source="kdbench's own: an even line in any direction",
)
def motion_blur(x: Tensor, level: float, chance: Chance) -> Tensor:
    """Return the mean of x displaced along a line through each pixel, in a direction of each image's own."""
    length = pixels(level, x)
    steps = 2 * math.ceil(length) + 1
    angle = math.pi * chance.uniform(1, 1)
    total = torch.zeros_like(x)
    for place in torch.linspace(-length / 2, length / 2, steps).tolist():
        total += moved(x, place * angle.sin(), place * angle.cos())
    return total / steps
