"""Batches on the device: shuffled, cropped, flipped and normalised, from memory or from disk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from kdbench.data.augment import Augment
from kdbench.data.dataset import Split, Streamed
from kdbench.data.draws import Draws, centred, drawn
from kdbench.data.streaming import Stream
from kdbench.inputs import IMAGE, Inputs, packed

Batch = tuple[Inputs, Tensor, Tensor]


class Pixels(Protocol):
    """Where the pixels of batches come from."""

    def batches(self, draws: Draws, batch_size: int) -> Iterator[Tensor]:
        """Yield the images of a pass, uint8 (B, H·W·C) on the device, batch by batch."""


class Batches:
    """A split on a device, from which batches are made.

    A batch is (x, y, index): what a model is shown, labels (B,) or (B, K) of several an example, and places
    in the split (B,). Images are float32 (B, C, H, W) in channels_last memory, normalised by ``mean`` and
    ``std`` of pixels in [0, 1]; other fields are the rows (B, ...) as they are. Where there are several
    fields, x maps their names to them. The pixels of a split in memory are moved to the device once; those
    of a streamed split are read in every pass, and are the same bits.
    """

    def __init__(
        self,
        split: Split | Streamed,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        *,
        device: torch.device | str = "cpu",
        augment: Augment | None = None,
    ) -> None:
        """Move to the device what stays there."""
        self.device = torch.device(device)
        self._augment = augment or Augment()
        self._labels = split.labels.to(self.device)
        self._fields = {name: values.to(self.device) for name, values in split.fields.items()}
        self._pixels: Pixels | None = None
        if split.images is None:
            return
        if isinstance(split, Streamed):
            self._pixels = Stream(split.images, self._augment, self.device)
        else:
            self._pixels = Held(split.images, self._augment, self.device)
        self._shape = split.images.shape[1:]
        # Tiled over the image: arithmetic along a dimension of one or three entries is several times slower.
        height, width, _ = self._shape
        scale = torch.tensor([1 / (255 * s) for s in std], dtype=torch.float32).repeat(height * width)
        shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)]).repeat(height * width)
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

        ``generator`` lives on the CPU and decides all of it now, so that nothing is copied to the device in
        the loop and the same seed means the same epoch on every device.
        """
        draws = drawn(len(self), self._augment, generator)
        return self._in_batches(draws[: self.steps(batch_size) * batch_size], batch_size)

    def ordered(self, batch_size: int) -> Iterator[Batch]:
        """Return every example in the order of the split, unchanged but for normalisation."""
        return self._in_batches(centred(len(self), self._augment), batch_size)

    def _in_batches(self, draws: Draws, batch_size: int) -> Iterator[Batch]:
        order = draws.order.to(self.device)
        labels = self._labels.index_select(0, order)
        images = self._normalised(draws, batch_size)
        for begin in range(0, len(draws), batch_size):
            part = slice(begin, begin + batch_size)
            image, index = next(images, None), order[part]
            inputs = self._with_fields(image, index) if image is None or self._fields else image
            yield inputs, labels[part], index

    def _with_fields(self, image: Tensor | None, index: Tensor) -> Inputs:
        fields = {name: values.index_select(0, index) for name, values in self._fields.items()}
        return packed(fields if image is None else {IMAGE: image} | fields)

    def _normalised(self, draws: Draws, batch_size: int) -> Iterator[Tensor]:
        if self._pixels is None:
            return
        for pixels in self._pixels.batches(draws, batch_size):
            # One operation converts and normalises: the product of uint8 and float32 is float32.
            x = torch.addcmul(self._shift, pixels, self._scale)
            yield x.view(-1, *self._shape).permute(0, 3, 1, 2)


class Held:
    """Images in the memory of a device, uint8, with the margin that crops need.

    With ``flip`` the mirrored images are held as well, so they take twice their memory.
    """

    def __init__(self, images: Tensor, augment: Augment, device: torch.device) -> None:
        """Move images (N, H, W, C) to the device, once, with their margin and mirror."""
        self._margin = margin = augment.crop_padding
        self._device = device
        self._count, height, width, self._channels = images.shape
        images = images.to(device)
        if margin or augment.flip:
            shape = (self._count, height + 2 * margin, width + 2 * margin, self._channels)
            padded = torch.zeros((1 + augment.flip, *shape), dtype=torch.uint8, device=device)
            inner = slice(margin, margin + height), slice(margin, margin + width)
            padded[0, :, *inner] = images
            if augment.flip:
                padded[1, :, *inner] = images.flip(2)
            images = padded
        self._row_bytes = (width + 2 * margin) * self._channels
        self._image_bytes = (height + 2 * margin) * self._row_bytes
        # A window is a few stretches of memory: its rows, or the whole image where there is no margin.
        # Every place where one can start is a row of this overlapping view, so that a crop, mirrored or
        # not, is one gather of whole stretches instead of a gather of pixels.
        stretch = width * self._channels if margin else height * width * self._channels
        flat = images.contiguous().view(-1)
        self._stretches = flat.as_strided((max(0, flat.numel() - stretch + 1), stretch), (1, 1))
        self._within = torch.arange(height if margin else 1, device=device) * self._row_bytes
        self._size = height * width * self._channels

    def batches(self, draws: Draws, batch_size: int) -> Iterator[Tensor]:
        """Yield the images of a pass, uint8 (B, H·W·C) on the device, batch by batch."""
        starts = self._starts(draws)
        for begin in range(0, len(draws), batch_size):
            rows = starts[begin : begin + batch_size].reshape(-1)
            yield self._stretches.index_select(0, rows).view(-1, self._size)

    def _starts(self, draws: Draws) -> Tensor:
        """Return where in memory the stretches of each window begin, shape (N, stretches)."""
        # The window that is mirrored lies in the mirrored image as far from the right as from the left here.
        left = torch.where(draws.flipped, 2 * self._margin - draws.left, draws.left)
        image = draws.order + self._count * draws.flipped
        first = image * self._image_bytes + draws.top * self._row_bytes + left * self._channels
        return first.to(self._device)[:, None] + self._within
