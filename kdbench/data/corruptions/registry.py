"""The corruptions by name, and `corrupt`, which applies one to a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kdbench.data.corruptions.chance import Chance
from kdbench.deferred import Tensor, torch
from kdbench.registry import Registry

Function = Callable[[Tensor, float, Chance], Tensor]

SEVERITIES = (1, 2, 3, 4, 5)
# The families of the literature, in its order.
FAMILIES = ("noise", "blur", "weather", "digital")
CIFAR_10_C = "CIFAR-10-C: Hendrycks & Dietterich 2019, arXiv 1903.12261"


@dataclass(frozen=True)
class Corruption:
    """One kind of damage: what its ``level`` is, and the value that it has at each severity.

    ``function`` takes images (B, C, H, W) in [0, 1], a level and draws; what it returns may leave the range.
    """

    name: str
    family: str
    title: str
    level: str
    levels: tuple[float, ...]
    source: str
    function: Function


CORRUPTIONS: Registry[Corruption] = Registry("corruption", home="kdbench.data.corruptions")


def corruption(
    name: str, *, title: str, level: str, levels: tuple[float, float, float, float, float], source: str
) -> Callable[[Function], Function]:
    """Register the decorated function under ``name``; its family is the name of its file."""

    def register(function: Function) -> Function:
        family = function.__module__.rpartition(".")[2]
        entry = Corruption(name, family, title, level, levels, source, function)
        CORRUPTIONS.add(name, entry, function)
        return function

    return register


def corruptions() -> dict[str, Corruption]:
    """Return every corruption by name: the families of `FAMILIES` in their order, then others by name."""

    def place(item: tuple[str, Corruption]) -> tuple[int, str]:
        family = item[1].family
        return (FAMILIES.index(family), "") if family in FAMILIES else (len(FAMILIES), family)

    return dict(sorted(CORRUPTIONS.all().items(), key=place))


def selected(names: Sequence[str]) -> tuple[Corruption, ...]:
    """Return the corruptions of these names, or every one for ``("all",)``; raises UserError for others.

    A name may be that of a user's own, ``path/file.py:function``.
    """
    if tuple(names) == ("all",):
        return tuple(corruptions().values())
    return tuple(CORRUPTIONS.find(name) for name in names)


def corrupt(
    images: Tensor, kind: str | Corruption, severity: int, *, rows: Tensor | None = None, seed: int = 0
) -> Tensor:
    """Return a batch of images with one corruption at one severity, in the type and range of the input.

    Shapes: images (B, H, W, C), uint8 or floating in [0, 1], on any device; rows (B,), the places of the
    images in their split, 0 .. B − 1 by default. What is random follows from the seed, the name, the
    severity and the row alone: an image looks the same in whatever batch it comes. The numbers are drawn
    on the CPU, so that they are the same for every device; devices may still round a pixel of 8 bits
    differently.

    Raises UserError for an unknown name, ValueError for a severity that is not 1 .. 5.

    >>> import torch
    >>> grey = torch.full((1, 2, 2, 1), 100, dtype=torch.uint8)
    >>> corrupt(grey, "brightness", 1).flatten().tolist()
    [113, 113, 113, 113]
    """
    (corruption,) = selected([kind]) if isinstance(kind, str) else (kind,)
    if severity not in SEVERITIES:
        raise ValueError(f"severity is {severity}, expected 1 to 5")
    if rows is None:
        rows = torch.arange(len(images))
    whole = images.dtype == torch.uint8
    x = images.permute(0, 3, 1, 2).contiguous().to(torch.float32)
    chance = Chance(f"{seed}/{corruption.name}/{severity}", rows, images.device)
    y = corruption.function(x / 255 if whole else x, corruption.levels[severity - 1], chance).clamp(0, 1)
    y = (255 * y).round() if whole else y
    return y.permute(0, 2, 3, 1).to(images.dtype).contiguous()
