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
    original size is cut out at one of (2p + 1)² places. ``flip``: half of the images are mirrored left
    to right.
    """

    crop_padding: int = 0
    flip: bool = False


class Batches:
    """A split on a device, in uint8, from which float32 batches are gathered.

    A batch is (x, y, index): images (B, C, H, W) in channels_last memory, normalised by ``mean`` and
    ``std`` of pixels in [0, 1]; labels (B,); places in the split (B,).
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
        """Move the split to the device, once, with the margin that random crops need."""
        self.device = torch.device(device)
        self._augment = augment or Augment()
        self._height, self._width = split.images.shape[1:3]
        margin = self._augment.crop_padding
        self._images = F.pad(split.images, (0, 0, margin, margin, margin, margin)).to(self.device)
        self._labels = split.labels.to(self.device)
        scale = torch.tensor([1 / (255 * value) for value in std], dtype=torch.float32)
        shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], dtype=torch.float32)
        self._scale, self._shift = scale.to(self.device), shift.to(self.device)
        self._rows = torch.arange(self._height, device=self.device).view(1, -1, 1)
        self._columns = torch.arange(self._width, device=self.device).view(1, 1, -1)

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self._labels)

    def steps(self, batch_size: int) -> int:
        """Return the number of batches of an epoch; a last batch of a single example is left out.

        Batch-norm cannot normalise one example.
        """
        whole, rest = divmod(len(self), batch_size)
        return whole + (rest > 1)

    def epoch(self, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        """Yield the batches of one epoch in random order, with random crops and flips.

        ``generator`` lives on the CPU and decides all of it before the first batch, so that nothing is
        copied between host and device inside the loop.
        """
        count = len(self)
        margin = self._augment.crop_padding
        order = torch.randperm(count, generator=generator).to(self.device)
        offsets = torch.randint(2 * margin + 1, (2, count), generator=generator).to(self.device)
        flips = torch.randint(2 if self._augment.flip else 1, (count,), generator=generator).to(self.device)
        for step in range(self.steps(batch_size)):
            part = slice(step * batch_size, (step + 1) * batch_size)
            index = order[part]
            if margin or self._augment.flip:
                yield self._augmented(index, offsets[:, part], flips[part])
            else:
                yield self._normalised(self._images[index]), self._labels[index], index

    def _augmented(self, index: Tensor, offsets: Tensor, flips: Tensor) -> Batch:
        top, left = offsets[0].view(-1, 1, 1), offsets[1].view(-1, 1, 1)
        flipped = flips.view(-1, 1, 1)
        columns = self._columns + flipped * (self._width - 1 - 2 * self._columns)
        pixels = self._images[index.view(-1, 1, 1), top + self._rows, left + columns]
        return self._normalised(pixels), self._labels[index], index

    def ordered(self, batch_size: int) -> Iterator[Batch]:
        """Yield every example in the order of the split, unchanged but for normalisation."""
        margin = self._augment.crop_padding
        inner = self._images[:, margin : margin + self._height, margin : margin + self._width]
        places = torch.arange(len(self), device=self.device)
        for start in range(0, len(self), batch_size):
            part = slice(start, start + batch_size)
            yield self._normalised(inner[part]), self._labels[part], places[part]

    def _normalised(self, pixels: Tensor) -> Tensor:
        """Return float32 (B, C, H, W) from uint8 (B, H, W, C); the memory stays channels_last."""
        return torch.addcmul(self._shift, pixels.float(), self._scale).permute(0, 3, 1, 2)
