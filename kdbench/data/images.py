"""Pictures to pixels: decoding encoded images as a person sees them, at one size and channel count.

They are turned as their EXIF orientation says, transparent pixels lie on white, of sixteen bits a channel the
higher eight are kept (Pillow does so with colour), and CMYK becomes RGB; colour profiles are not applied.
"""

from __future__ import annotations

import io
import itertools
import os
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from kdbench.errors import UserError, refuse

Made = TypeVar("Made")

# How many images a thread decodes at a time, and how many such chunks wait for each thread.
_CHUNK = 64
_AHEAD = 2
_GREY_MODES = ("1", "L", "LA", "La")
_SIXTEEN_BITS = "I;16"
_WHITE = (255, 255, 255, 255)
# EXIF 2.32, tag Orientation: what turns the stored picture upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow's decoders raise for damaged files.
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


@dataclass(frozen=True)
class Encoded:
    """One encoded image: ``where`` is how errors name it, ``content`` its bytes or its file."""

    where: str
    content: bytes | Path


def picture(encoded: Encoded, format: str | None = None) -> Image.Image:
    """Decode an image and return it as a person sees it: upright, opaque, with eight bits a channel.

    Pillow tries its plugins one after the other; ``format`` is the one to try before all others. Raises
    UserError that names the image where it cannot be read.
    """
    with _opened(encoded, format) as image:
        try:
            # First of all: Pillow itself turns a TIFF file upright when it decodes it.
            image.load()
            shown = _opaque(_eight_bits(_upright(image)))
        except _BROKEN as error:
            raise _unreadable(encoded, error) from error
        shown.format = image.format
        return shown


def _upright(image: Image.Image) -> Image.Image:
    try:
        turn = _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (*_BROKEN, TypeError, KeyError, OverflowError):
        # Damaged metadata make no damaged picture: viewers show it as it is stored.
        turn = None
    return image if turn is None else image.transpose(turn)


def _eight_bits(image: Image.Image) -> Image.Image:
    if not image.mode.startswith(_SIXTEEN_BITS):
        return image
    levels = np.asarray(image)
    grey = Image.fromarray((levels >> 8).astype(np.uint8))
    clear = image.info.get("transparency")
    if clear is not None:
        grey.putalpha(Image.fromarray(np.where(levels == clear, 0, 255).astype(np.uint8)))
    return grey


def _opaque(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    paper = Image.new("RGBA", image.size, _WHITE)
    return Image.alpha_composite(paper, image.convert("RGBA")).convert(
        "L" if image.mode in _GREY_MODES else "RGB"
    )


def _opened(encoded: Encoded, format: str | None) -> Image.Image:
    if encoded.content == b"":
        raise UserError(f"{encoded.where} holds no image bytes: embed the images in the file.")
    content = io.BytesIO(encoded.content) if isinstance(encoded.content, bytes) else encoded.content
    try:
        try:
            image = Image.open(content, formats=(format,) if format else None)
        except Image.UnidentifiedImageError:
            image = Image.open(content)
    except _BROKEN as error:
        raise _unreadable(encoded, error) from error
    if image.mode.startswith(("I", "F")) and not image.mode.startswith(_SIXTEEN_BITS):
        raise UserError(
            f"{encoded.where} has more than 16 bits a channel (mode {image.mode}): convert it to 8 bits."
        )
    return image


def _unreadable(encoded: Encoded, error: Exception) -> UserError:
    reason = "not an image" if isinstance(error, Image.UnidentifiedImageError) else str(error)
    return UserError(f"cannot read the image {encoded.where} ({reason}): replace or remove it.")


def channels_of(image: Image.Image) -> int:
    """Return 1 for a grey image and 3 for any other."""
    return 1 if image.mode in _GREY_MODES else 3


def pixels(image: Image.Image, size: int | None, channels: int) -> NDArray[np.uint8]:
    """Return an image as uint8 (H, W, channels): luma or RGB, resized to size × size (bilinear)."""
    mode = "L" if channels == 1 else "RGB"
    if image.mode != mode:
        image = image.convert(mode)
    if size is not None and image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    array = np.asarray(image)
    return array[..., None] if channels == 1 else array


def refit(images: NDArray[np.uint8], size: int | None, channels: int | None) -> NDArray[np.uint8]:
    """Return images (N, H, W, C) as (N, size, size, channels); None keeps what is there."""
    height, width, depth = images.shape[1:]
    channels = channels or depth
    if channels == depth and (size is None or (size, size) == (height, width)):
        return images
    rows, columns = (size, size) if size is not None else (height, width)
    fitted = np.empty((len(images), rows, columns, channels), dtype=np.uint8)
    for row, image in enumerate(images):
        fitted[row] = pixels(Image.fromarray(image[..., 0] if depth == 1 else image), size, channels)
    return fitted


class Decoder:
    """Decodes the images of one dataset to one shape; its first image sets what is not asked for."""

    def __init__(
        self,
        size: int | None,
        channels: int | None,
        images: Iterable[Encoded],
        fault: Callable[[str], None] = refuse,
    ) -> None:
        """Set the size and channels to bring every image to; None keeps those of the first image.

        ``fault`` is told of an image that cannot be read; the first is then the next that can. Raises
        UserError where there is none.
        """
        self._size = size
        self._channels = channels
        for first in images:
            try:
                image = picture(first)
            except UserError as error:
                fault(str(error))
            else:
                self._first = _First(first.where, image.width, image.height, channels_of(image), image.format)
                return
        raise UserError("there is no training image that can be read: add some.")

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (H, W, C) of every decoded image."""
        first = self._first
        height, width = (first.height, first.width) if self._size is None else (self._size, self._size)
        return height, width, self._channels or first.channels

    def chunks(self, encoded: Iterable[Encoded]) -> Iterator[NDArray[np.uint8]]:
        """Yield images in their order, some at a time, as uint8 (n, H, W, C).

        Raises UserError as ``pixels`` does.
        """
        return _by_chunks(self._stacked, encoded)

    def faults(self, encoded: Iterable[Encoded]) -> Iterator[tuple[int, list[str]]]:
        """Yield for some images at a time how many they are, and why those cannot be read that cannot."""
        return _by_chunks(self._faults, encoded)

    def pixels(self, encoded: Encoded) -> NDArray[np.uint8]:
        """Return one image as uint8 (H, W, C).

        Raises UserError for an image that cannot be read, for one that differs from the first in size where
        no size was asked for, and for a colour image where the first is grey and no channel count was asked
        for.
        """
        first = self._first
        image = picture(encoded, first.format)
        if self._size is None and image.size != (first.width, first.height):
            raise UserError(
                f"images differ in size: {first.where} is {first.width}x{first.height} and "
                f"{encoded.where} is {image.width}x{image.height}: give the dataset argument size."
            )
        if self._channels is None and channels_of(image) > first.channels:
            raise UserError(
                f"{first.where} is grey and {encoded.where} is in colour: give the dataset argument "
                "channels, 3 (RGB) or 1 (grey)."
            )
        try:
            return pixels(image, self._size, self._channels or first.channels)
        except _BROKEN as error:
            raise _unreadable(encoded, error) from error

    def _stacked(self, chunk: list[Encoded]) -> NDArray[np.uint8]:
        return np.stack([self.pixels(encoded) for encoded in chunk])

    def _faults(self, chunk: list[Encoded]) -> tuple[int, list[str]]:
        faults = []
        for encoded in chunk:
            try:
                self.pixels(encoded)
            except UserError as error:
                faults.append(str(error))
        return len(chunk), faults


def _by_chunks(work: Callable[[list[Encoded]], Made], encoded: Iterable[Encoded]) -> Iterator[Made]:
    """Yield what ``work`` makes of some images at a time, in their order."""
    images = iter(encoded)
    threads = min(4, os.cpu_count() or 1)
    # Pillow decodes most formats outside the interpreter's lock, so threads help with large images.
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Made]] = deque()
        while chunk := list(itertools.islice(images, _CHUNK)):
            waiting.append(pool.submit(work, chunk))
            if len(waiting) > _AHEAD * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@dataclass(frozen=True)
class _First:
    where: str
    width: int
    height: int
    channels: int
    format: str | None
