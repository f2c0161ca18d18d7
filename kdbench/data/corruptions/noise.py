"""Noise: every pixel of every channel is disturbed by itself."""

from __future__ import annotations

import functools
import math

from kdbench.data.corruptions.chance import Chance
from kdbench.data.corruptions.registry import CIFAR_10_C, corruption
from kdbench.deferred import Tensor, torch


@corruption(
    "gaussian_noise",
    title="normal noise added to every pixel",
    level="standard deviation",
    levels=(0.04, 0.06, 0.08, 0.09, 0.10),
    source=CIFAR_10_C,
)
def gaussian_noise(x: Tensor, level: float, chance: Chance) -> Tensor:
    """Return x + level · n with standard normal n."""
    return x + level * chance.normal(*x.shape[1:])


@corruption(
    "shot_noise",
    title="the grain of few photons",
    level="photons of a white pixel",
    levels=(500, 250, 100, 75, 50),
    source=CIFAR_10_C,
)
def shot_noise(x: Tensor, level: float, chance: Chance) -> Tensor:
    """Return n / level with n ~ Poisson(level · x); x is taken at 8 bits.

    Found by inverting the distribution, so that the uniform draw alone decides it: n is the number of
    k with P(n ≤ k) ≤ u. The tables of the 256 grey levels are searched as one, each put after the last.
    """
    table, counts = _poisson_tables(level)
    grey = (255 * x).round().long()
    wanted = grey + chance.uniform(*x.shape[1:]).double()
    place = torch.searchsorted(table.to(x.device), wanted, right=True)
    return (place - grey * counts).to(x.dtype) / level


@functools.lru_cache(maxsize=8)
def _poisson_tables(level: float) -> tuple[Tensor, int]:
    """Return g + P(n ≤ k | g) for grey levels g and then counts k, ascending, and the number of counts."""
    counts = math.ceil(level + 10 * math.sqrt(level) + 10)  # beyond it lies less than a uniform draw resolves
    grey = torch.arange(256, dtype=torch.float64)[:, None]
    rate = level * grey / 255
    at_most = torch.special.gammaincc(torch.arange(1, counts + 1, dtype=torch.float64)[None], rate)
    return (grey + at_most.clamp(max=1.0)).flatten(), counts


@corruption(
    "impulse_noise",
    title="salt and pepper: values lost to white or black",
    level="share of values that are lost",
    levels=(0.01, 0.02, 0.03, 0.05, 0.07),
    source=CIFAR_10_C,
)
def impulse_noise(x: Tensor, level: float, chance: Chance) -> Tensor:
    """Return x with a share ``level`` of its values replaced, one half by 0 and the other by 1."""
    u = chance.uniform(*x.shape[1:])
    return torch.where(u < level / 2, 0.0, torch.where(u >= 1 - level / 2, 1.0, x))
