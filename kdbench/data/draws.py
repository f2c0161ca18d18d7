"""What chance decides about one pass over a split: the order, and each image's window and mirror."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kdbench.data.augment import Augment


@dataclass(frozen=True)
class Draws:
    """The images of a pass, one entry an image.

    ``order``: the row in the split. ``top``, ``left``: the corner of the window in the image with its
    margin. ``flipped``: whether the window is mirrored left to right once it is cut out.
    """

    order: Tensor
    top: Tensor
    left: Tensor
    flipped: Tensor

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.order)

    def __getitem__(self, part: slice) -> Draws:
        """Return a stretch of the pass."""
        return Draws(self.order[part], self.top[part], self.left[part], self.flipped[part])


def drawn(count: int, augment: Augment, generator: torch.Generator) -> Draws:
    """Draw an epoch of ``count`` images: permutation, tops, lefts, flips, only those that are asked for."""
    margin = augment.crop_padding
    order = torch.randperm(count, generator=generator)
    top = left = torch.zeros(count, dtype=torch.int64)
    flipped = torch.zeros(count, dtype=torch.bool)
    if margin:
        top = torch.randint(2 * margin + 1, (count,), generator=generator)
        left = torch.randint(2 * margin + 1, (count,), generator=generator)
    if augment.flip:
        flipped = torch.randint(2, (count,), generator=generator) == 1
    return Draws(order, top, left, flipped)


def centred(count: int, augment: Augment) -> Draws:
    """Return the pass that shows every image as it is, in the order of the split."""
    order = torch.arange(count)
    centre = torch.full_like(order, augment.crop_padding)
    return Draws(order, centre, centre, torch.zeros(count, dtype=torch.bool))
