"""Images in folders, one folder a class: torchvision's ImageFolder layout."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdbench.data.dataset import Description, Examples, Raw
from kdbench.data.images import Decoder, Encoded, channels_of, picture
from kdbench.data.registry import Request, source
from kdbench.data.splits import VALIDATION_NAMES, roles, stratified
from kdbench.data.stored import Files, Stored
from kdbench.errors import UserError, nearest
from kdbench.printable import printable

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"))
TEST_FRACTION = 0.2


def _subfolders(folder: Path) -> list[Path]:
    return [Path(entry.path) for entry in _inside(folder) if entry.is_dir() and entry.name[0] != "."]


def _images(folder: Path) -> list[Path]:
    files = (Path(entry.path) for entry in _below(folder, ()) if entry.is_file() and entry.name[0] != ".")
    return sorted(path for path in files if path.suffix.lower() in SUFFIXES)


def _below(folder: Path, above: tuple[Path, ...]) -> Iterator[os.DirEntry[str]]:
    """Yield what lies below a folder, through links too, but not again what a link leads back to."""
    real = folder.resolve()
    if real in above:
        return
    for entry in _inside(folder):
        yield entry
        if entry.is_dir():
            yield from _below(Path(entry.path), (*above, real))


def _inside(folder: Path) -> list[os.DirEntry[str]]:
    """Return what lies in a folder, by name; what cannot be read must not be missing in silence."""
    try:
        with os.scandir(folder) as entries:
            inside = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"cannot read the folder {folder} ({error.strerror}): mend or remove it.") from None
    for entry in inside:
        if entry.is_symlink() and entry.name[0] != "." and not Path(entry.path).exists():
            leads = Path(entry.path).readlink()
            raise UserError(f"{entry.path} is a link to {leads}, which is not there: mend or remove it.")
    return inside


def _splits(folder: Path) -> dict[str, Path] | None:
    """Return the folder of each split, or None where the folders are the classes themselves."""
    train = folder / "train"
    if not train.is_dir() or (not _subfolders(train) and _images(train)):
        return None
    names = [name for name in ("train", "test", *VALIDATION_NAMES) if (folder / name).is_dir()]
    return {role: folder / name for role, name in roles(names, f"image folder {folder}").items()}


def _classes(folder: Path) -> tuple[str, ...]:
    names = tuple(path.name for path in _subfolders(folder))
    if len(names) < 2:
        has = f"only the class folder '{names[0]}'" if names else "no class folders"
        raise UserError(f"{folder} has {has}: put the images of each of two or more classes in a folder.")
    for name in names:
        if printable(name) != name:
            raise UserError(f"{folder}: the name {name!r} of a class folder is not plain text: rename it.")
    return names


def _listing(
    folder: Path, classes: tuple[str, ...], fault: Callable[[str], None]
) -> tuple[Files, NDArray[np.int64]]:
    """Return the images below a split's folder and their labels; every class folder holds one at least."""
    names: list[str] = []
    labels: list[int] = []
    for of_class in _subfolders(folder):
        if of_class.name not in classes:
            hint = nearest(of_class.name, classes) or " Remove it, or add it to the training split."
            fault(f"{of_class} is not a class of the training split.{hint}")
            continue
        images = _images(of_class)
        if not images:
            fault(
                f"{of_class} holds no image ({', '.join(sorted(SUFFIXES))}): add some or remove the folder."
            )
        names += [str(image.relative_to(folder)) for image in images]
        labels += [classes.index(of_class.name)] * len(images)
    if not names:
        raise UserError(f"{folder} holds no class folders with images: add the images or remove it.")
    return Files(folder, np.array(names)), np.array(labels, dtype=np.int64)


def classes_of(request: Request) -> tuple[str, ...]:
    """List the folders of the classes only."""
    folder = request.folder()
    splits = _splits(folder)
    return _classes(splits["train"] if splits else folder)


def describe(request: Request) -> Description:
    """List the classes and look at the first image only."""
    folder = request.folder()
    splits = _splits(folder)
    train = splits["train"] if splits else folder
    classes = _classes(train)
    images = _images(train / classes[0])
    if not images:
        raise UserError(f"{train / classes[0]} holds no image: add some or remove the folder.")
    image = picture(Encoded(str(images[0]), images[0]))
    return Description((channels_of(image), image.height, image.width), len(classes))


@source(
    "folder:PATH",
    title="images as PATH/train/CLASS/* and PATH/test/CLASS/*, or PATH/CLASS/* with a fifth held out as test",
    reference="torchvision ImageFolder layout",
    describe=describe,
    classes=classes_of,
)
def load(request: Request) -> Raw:
    """Return the splits of a folder of images, under the current directory or the data root.

    Classes are the names of the folders in alphabetical order; images may lie in further folders below them,
    and links are followed. Without split folders, a stratified fifth
    of each class, drawn by ``split_seed``, is the test split. The images stay on disk.
    """
    folder = request.folder()
    splits = _splits(folder)
    classes = _classes(splits["train"] if splits else folder)
    if splits:
        listings = {role: _listing(path, classes, request.fault) for role, path in splits.items()}
    else:
        files, labels = _listing(folder, classes, request.fault)
        train, test = stratified(
            labels,
            classes,
            TEST_FRACTION,
            seed=request.split_seed,
            part="test",
            mend=f"Add images to {folder}, or make train and test folders in it.",
        )
        listings = {
            role: (files.take(rows), labels[rows]) for role, rows in (("train", train), ("test", test))
        }
    options = request.options
    for role, (files, labels) in listings.items():
        rows = options.kept(role, labels, len(classes))
        if rows is not None:
            listings[role] = files.take(rows), labels[rows]
    decoder = Decoder(options.size, options.channels, listings["train"][0], request.fault)
    found = {role: Examples(Stored(files, decoder), labels) for role, (files, labels) in listings.items()}
    return Raw(found["train"], found["test"], classes, found.get("validation"))
