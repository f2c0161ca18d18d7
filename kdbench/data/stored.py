"""Images that stay on disk: encoded, in a fixed order, decoded when they are read."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from kdbench.data.images import Decoder, Encoded
from kdbench.errors import UserError


class Shelf(Protocol):
    """Encoded images in a fixed order, to be read from the first to the last."""

    def __len__(self) -> int:
        """Return the number of images."""

    def __iter__(self) -> Iterator[Encoded]:
        """Read the images in their order."""

    def take(self, rows: NDArray[np.intp]) -> Self:
        """Return the shelf of the images at ``rows``, in that order."""

    def opened(self, scratch: Path | None) -> OpenShelf:
        """Return a shelf of the same images that gives any of them at once; files it needs go in scratch."""


class OpenShelf(Shelf, Protocol):
    """A shelf from which several processes read images in any order."""

    def __getitem__(self, row: int) -> Encoded:
        """Return the image at ``row``."""

    def __iter__(self) -> Iterator[Encoded]:
        """Yield the images in their order."""
        return (self[row] for row in range(len(self)))

    def opened(self, scratch: Path | None) -> Self:
        """Return itself: any image is at hand."""
        return self


@dataclass(frozen=True, eq=False)
class Files(OpenShelf):
    """A shelf of image files: ``names`` are their paths below ``folder``."""

    folder: Path
    names: NDArray[np.str_]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.names)

    def __getitem__(self, row: int) -> Encoded:
        """Return the image at ``row``; its file is opened when it is decoded."""
        path = self.folder / str(self.names[row])
        return Encoded(str(path), path)

    def take(self, rows: NDArray[np.intp]) -> Self:
        """Return the shelf of the images at ``rows``, in that order."""
        return replace(self, names=self.names[rows])


class _Pack:
    """A temporary file, deleted once nothing in the process that made it refers to it any more."""

    def __init__(self, folder: Path) -> None:
        handle, name = tempfile.mkstemp(prefix="kdbench-", suffix=".images", dir=folder)
        os.close(handle)
        self.path = Path(name)
        weakref.finalize(self, _delete, self.path, os.getpid())

    def __getstate__(self) -> dict[str, Path]:
        return {"path": self.path}


def _delete(path: Path, owner: int) -> None:
    # A worker that was forked has a copy of the object, but not of the file.
    if os.getpid() == owner:
        path.unlink(missing_ok=True)


@dataclass(frozen=True, eq=False)
class Packed(OpenShelf):
    """A shelf in one temporary file: for each image what errors call it, then its bytes.

    ``bounds``, int64 (N, 3), says where the one begins, the other begins, and it ends.
    """

    pack: _Pack
    bounds: NDArray[np.int64]

    @classmethod
    def of(cls, images: Shelf, scratch: Path | None) -> Packed:
        """Copy the images of a shelf into a file in ``scratch``, or else where temporary files go.

        Raises UserError where there is no room for them.
        """
        folder = Path(tempfile.gettempdir()) if scratch is None else scratch
        bounds = np.empty((len(images), 3), dtype=np.int64)
        stop = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            pack = _Pack(folder)
            with pack.path.open("wb") as file:
                for row, image in enumerate(images):
                    where = os.fsencode(image.where)
                    content = (
                        image.content if isinstance(image.content, bytes) else image.content.read_bytes()
                    )
                    file.write(where)
                    file.write(content)
                    bounds[row] = stop, stop + len(where), stop + len(where) + len(content)
                    stop = int(bounds[row, 2])
        except OSError as error:
            raise UserError(
                f"cannot copy the encoded images to {folder} ({error.strerror}): "
                "make room there, or work in a folder on another disk."
            ) from error
        return cls(pack, bounds)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.bounds)

    def __getitem__(self, row: int) -> Encoded:
        """Read the image at ``row``; the file is opened anew, so that processes share no position in it."""
        start, middle, stop = self.bounds[row].tolist()
        with self.pack.path.open("rb") as file:
            file.seek(start)
            where, content = file.read(middle - start), file.read(stop - middle)
        return Encoded(os.fsdecode(where), content)

    def take(self, rows: NDArray[np.intp]) -> Self:
        """Return the shelf of the images at ``rows``, in that order."""
        return replace(self, bounds=self.bounds[rows])


@dataclass(frozen=True, eq=False)
class Stored:
    """Images on a shelf, in the place of an array: uint8 (N, H, W, C) once they are decoded."""

    shelf: Shelf
    decoder: Decoder

    dtype = np.dtype(np.uint8)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.shelf)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape (N, H, W, C) of the array that they stand for."""
        return (len(self.shelf), *self.decoder.shape)

    def __getitem__(self, rows: NDArray[np.intp]) -> Self:
        """Return the images at ``rows``, in that order, still on their shelf."""
        return replace(self, shelf=self.shelf.take(rows))

    def chunks(self) -> Iterator[NDArray[np.uint8]]:
        """Decode the images in their order, some at a time."""
        return self.decoder.chunks(self.shelf)

    def faults(self) -> Iterator[tuple[int, list[str]]]:
        """Decode the images, some at a time; yield how many, and what is wrong with which of them."""
        return self.decoder.faults(self.shelf)

    def read(self) -> NDArray[np.uint8]:
        """Decode all images into one array."""
        images = np.empty(self.shape, dtype=np.uint8)
        start = 0
        for chunk in self.chunks():
            images[start : start + len(chunk)] = chunk
            start += len(chunk)
        return images

    def opened(self, scratch: Path | None) -> Opened:
        """Return the same images such that any of them can be decoded at once; see ``Shelf.opened``."""
        return Opened(self.shelf.opened(scratch), self.decoder)


@dataclass(frozen=True, eq=False)
class Opened(Stored):
    """Stored images of which any can be decoded at once, also in another process."""

    shelf: OpenShelf

    def image(self, row: int) -> NDArray[np.uint8]:
        """Decode the image at ``row``, uint8 (H, W, C)."""
        return self.decoder.pixels(self.shelf[row])
