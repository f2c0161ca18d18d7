"""Batches on the device: shuffled, cropped, flipped and normalised without a loop over images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kdbench.data.dataset import Split

Batch = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Augment:
    """Random changes of training images.

    ``crop_padding`` p: zeros are put around the image before it is normalised, and a window of the
    original size is cut out at one of (2p + 1)² places. ``flip``: each image is mirrored left to right
    with probability one half.
    """

    crop_padding: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        """Refuse a padding below zero, which would be cut off without a word."""
        if self.crop_padding < 0:
            raise ValueError(f"crop_padding is {self.crop_padding}: it is 0 or more")


class Batches:
    """A split on a device, in uint8, from which float32 batches are gathered.

    A batch is (x, y, index): images (B, C, H, W) in channels_last memory, normalised by ``mean`` and
    ``std`` of pixels in [0, 1]; labels (B,); places in the split (B,). With ``flip`` the mirrored images
    are held as well, so the split takes twice its memory.
    """

    def __init__(
        self,
        split: Split,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        *,
        device: torch.device | str = "cpu",
        augment: Augment | None = None,
    ) -> None:
        """Move the split to the device, once, with the margin and the mirror that augmentation needs."""
        self.device = torch.device(device)
        self._augment = augment or Augment()
        margin = self._augment.crop_padding
        self._shape = split.images.shape[1:]
        height, width, channels = self._shape
        images = split.images.to(self.device)
        images = F.pad(images, (0, 0, margin, margin, margin, margin)) if margin else images
        images = torch.cat([images, images.flip(2)]) if self._augment.flip else images
        self._row_bytes = (width + 2 * margin) * channels
        self._image_bytes = (height + 2 * margin) * self._row_bytes
        # A window is a few stretches of memory: its rows, or the whole image where there is no margin.
        # Every place where one can start is a row of this overlapping view, so that a crop, mirrored or
        # not, is one gather of whole stretches instead of a gather of pixels.
        stretch = width * channels if margin else height * width * channels
        flat = images.contiguous().view(-1)
        self._stretches = flat.as_strided((max(0, flat.numel() - stretch + 1), stretch), (1, 1))
        self._within = torch.arange(height if margin else 1, device=self.device) * self._row_bytes
        self._labels = split.labels.to(self.device)
        # Tiled over the image: arithmetic along a dimension of one or three entries is several times slower.
        pixels = height * width
        scale = torch.tensor([1 / (255 * s) for s in std], dtype=torch.float32).repeat(pixels)
        shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)]).repeat(pixels)
        self._scale, self._shift = scale.to(self.device), shift.to(self.device)

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self._labels)

    def steps(self, batch_size: int) -> int:
        """Return the number of batches of an epoch.

        The last one may be smaller, but is left out where it would hold a single example, which
        batch-norm cannot normalise.
        """
        whole, rest = divmod(len(self), batch_size)
        return whole + (rest > 1)

    def epoch(self, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        """Return the batches of one epoch in random order, with random crops and flips.

        ``generator`` lives on the CPU and decides all of it now, in the order permutation, tops, lefts,
        flips (only those that are asked for), so that nothing is copied to the device in the loop and
        the same seed means the same epoch on every device.
        """
        count, margin = len(self), self._augment.crop_padding
        order = torch.randperm(count, generator=generator)
        if margin:
            top = torch.randint(2 * margin + 1, (count,), generator=generator)
            left = torch.randint(2 * margin + 1, (count,), generator=generator)
        else:
            top = left = torch.zeros(count, dtype=torch.int64)
        image = order
        if self._augment.flip:
            flipped = torch.randint(2, (count,), generator=generator)
            image = order + count * flipped
            left = torch.where(flipped == 1, 2 * margin - left, left)
        return self._gathered(order, self._starts(image, top, left), batch_size, self.steps(batch_size))

    def ordered(self, batch_size: int) -> Iterator[Batch]:
        """Return every example in the order of the split, unchanged but for normalisation."""
        order = torch.arange(len(self))
        centre = torch.full_like(order, self._augment.crop_padding)
        return self._gathered(
            order, self._starts(order, centre, centre), batch_size, -(-len(self) // batch_size)
        )

    def _starts(self, image: Tensor, top: Tensor, left: Tensor) -> Tensor:
        """Return where in memory the stretches of each window begin, shape (N, stretches)."""
        first = image * self._image_bytes + top * self._row_bytes + left * self._shape[2]
        return first.to(self.device)[:, None] + self._within

    def _gathered(self, order: Tensor, starts: Tensor, batch_size: int, steps: int) -> Iterator[Batch]:
        order = order.to(self.device)
        labels = self._labels.index_select(0, order)
        for begin in range(0, steps * batch_size, batch_size):
            part = slice(begin, begin + batch_size)
            pixels = self._stretches.index_select(0, starts[part].reshape(-1))
            # One operation converts and normalises: the product of uint8 and float32 is float32.
            x = torch.addcmul(self._shift, pixels.view(-1, len(self._scale)), self._scale)
            yield x.view(-1, *self._shape).permute(0, 3, 1, 2), labels[part], order[part]
