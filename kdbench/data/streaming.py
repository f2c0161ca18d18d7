"""Images that are read from disk while a model trains, by worker processes of a ``DataLoader``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional as tv

from kdbench.data.augment import Augment
from kdbench.data.draws import Draws
from kdbench.data.stored import Opened
from kdbench.errors import SharedFault, UserError
from kdbench.parent import end_with

MOST_WORKERS = 4
# How many images a worker hands over at a time. Each is ahead by two such pieces: with images of 224 × 224
# four workers take 40 MB of shared memory, whatever the batch size; containers often have no more than 64.
PIECE = 32
# Workers only read and compute on the CPU, so that a fork is safe, also of a process that was spawned itself;
# a spawned worker would import torch first, in every pass.
START = "fork" if sys.platform == "linux" else None


class Stream:
    """Stored images, decoded and augmented again in every pass, with the pixels that ``Held`` would give.

    What chance decides is drawn before the pass, so that the images depend neither on the number of
    ``workers`` (by default a core each, at most four; 0 decodes in this process) nor on their timing.
    """

    def __init__(
        self, images: Opened, augment: Augment, device: torch.device, workers: int | None = None
    ) -> None:
        """Take where the images are; nothing is read yet."""
        self._pictures = _Pictures(images, augment.crop_padding)
        self._device = device
        self._workers = min(MOST_WORKERS, _cores()) if workers is None else workers

    def batches(self, draws: Draws, batch_size: int) -> Iterator[Tensor]:
        """Yield the images of a pass, uint8 (B, H·W·C) on the device, batch by batch.

        Raises SharedFault, in the words of the decoder, for an image that cannot be read any more.
        """
        if not len(draws):
            return
        workers = min(self._workers, -(-len(draws) // PIECE))
        loader = DataLoader(
            self._pictures,
            sampler=_pieces(draws, batch_size),
            batch_size=None,
            num_workers=workers,
            multiprocessing_context=START if workers else None,
            worker_init_fn=partial(_end_with, os.getpid()),
            pin_memory=self._device.type == "cuda",
            # Of its own, so that the stream of random numbers that training uses stays as it is.
            generator=torch.Generator(),
        )
        arriving = iter(loader)
        for begin in range(0, len(draws), batch_size):
            size = min(batch_size, len(draws) - begin)
            pieces = [self._arrived(next(arriving)) for _ in range(0, size, PIECE)]
            yield pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def _arrived(self, piece: Tensor | UserError) -> Tensor:
        if isinstance(piece, UserError):
            raise SharedFault(str(piece)) from piece
        return piece.to(self._device, non_blocking=True)


def _end_with(parent: int, worker: int) -> None:
    """Let a worker end with its process: until then it holds what that one held, such as the run's lock."""
    end_with(parent)


def _pieces(draws: Draws, batch_size: int) -> Iterator[Draws]:
    """Cut a pass into batches, and these into what a worker makes at a time."""
    for begin in range(0, len(draws), batch_size):
        batch = draws[begin : begin + batch_size]
        for start in range(0, len(batch), PIECE):
            yield batch[start : start + PIECE]


class _Pictures(Dataset[Tensor | UserError]):
    """What a worker does: decode, pad, crop and flip the images of a piece."""

    def __init__(self, images: Opened, margin: int) -> None:
        self._images = images
        self._margin = margin

    def __getitem__(self, piece: Draws) -> Tensor | UserError:
        """Return the images as they are trained on, uint8 (n, H·W·C).

        An error is returned, not raised: it would arrive with the worker's traceback as its text.
        """
        _, height, width, channels = self._images.shape
        images = torch.empty((len(piece), height, width, channels), dtype=torch.uint8)
        windows = zip(*(x.tolist() for x in (piece.order, piece.top, piece.left, piece.flipped)), strict=True)
        try:
            for place, (row, top, left, flipped) in enumerate(windows):
                image = torch.tensor(self._images.image(row)).permute(2, 0, 1)
                if self._margin:
                    image = tv.crop(tv.pad(image, [self._margin] * 4), top, left, height, width)
                image = tv.horizontal_flip(image) if flipped else image
                images[place] = image.permute(1, 2, 0)
        except UserError as error:
            return error
        return images.flatten(1)


def _cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
