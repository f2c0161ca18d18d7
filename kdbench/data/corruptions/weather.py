"""Weather and light."""

from __future__ import annotations

from kdbench.data.corruptions.chance import Chance
from kdbench.data.corruptions.geometry import smooth_field
from kdbench.data.corruptions.registry import CIFAR_10_C, corruption
from kdbench.deferred import Tensor, torch

# The depth of haze is given at so many points along each side, and is smooth in between.
NODES = 4


@corruption(
    "brightness",
    title="more light",
    level="added to the value of hue, saturation and value",
    levels=(0.05, 0.1, 0.15, 0.2, 0.3),
    source=CIFAR_10_C,
)
def brightness(x: Tensor, level: float, chance: Chance) -> Tensor:
    """Return x with the value v = max over channels raised to min(1, v + level).

    Hue and saturation stay, so all channels are multiplied alike: x · v′/v; black becomes grey.
    """
    value = x.amax(dim=1, keepdim=True)
    raised = (value + level).clamp(max=1.0)
    return torch.where(value > 0, x * raised / value, raised)


@corruption(
    "haze",
    title="a white veil of uneven depth",
    level="mean optical depth",
    levels=(0.1, 0.2, 0.35, 0.55, 0.8),
    source="kdbench's own, by the scattering law of Koschmieder 1924; not the fog of CIFAR-10-C",
)
def haze(x: Tensor, level: float, chance: Chance) -> Tensor:
    """Return x · t + (1 − t) with the transmission t = exp(−level · d), d smooth between 1/2 and 3/2."""
    depth = smooth_field(0.5 + chance.uniform(1, NODES, NODES), x).clamp(0.5, 1.5)
    return 1 - (1 - x) * torch.exp(-level * depth)
