"""Images in folders, one folder a class: torchvision's ImageFolder layout."""

from __future__ import annotations

import os
from collections import Counter
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
# Images too, but of kinds that are not read.
UNREAD = frozenset((".avif", ".gif", ".heic", ".heif", ".ico", ".jfif", ".jp2", ".jxl", ".svg", ".tga"))
TEST_FRACTION = 0.2


def _subfolders(folder: Path) -> list[Path]:
    return [Path(entry.path) for entry in _inside(folder) if entry.is_dir() and entry.name[0] != "."]


class _Classes:
    """The class folders of a split, and where they are really."""

    def __init__(self, folders: list[Path]) -> None:
        self._own: dict[Path, Path] = {}
        self._holding: dict[Path, Path] = {}
        for folder in sorted(folders, key=lambda folder: folder.is_symlink()):
            real = folder.resolve()
            self._own.setdefault(real, folder)
            for parent in real.parents:
                self._holding.setdefault(parent, folder)

    def check(self, link: Path, of_class: Path) -> None:
        """Raise UserError for a link from a class to another one, to a part of it or to what holds it."""
        real = link.resolve()
        other = self._holding.get(real)
        for place in (real, *real.parents):
            if (owner := self._own.get(place, of_class)) != of_class:
                other = owner
        if other:
            raise UserError(
                f"{link} is a link to {real}, so that images of the class folder {other} would count as "
                f"those of {of_class} too: remove the link."
            )


def _images(folder: Path, classes: _Classes | None = None) -> list[Path]:
    """Return the images below a folder, which is that of a class where there are ``classes``."""
    return [path for path in _files(folder, classes) if path.suffix.lower() in SUFFIXES]


def _files(folder: Path, classes: _Classes | None) -> list[Path]:
    below = _below(folder, (), folder, classes)
    return sorted(Path(entry.path) for entry in below if entry.is_file() and entry.name[0] != ".")


def _below(
    folder: Path, above: tuple[Path, ...], of_class: Path, classes: _Classes | None
) -> Iterator[os.DirEntry[str]]:
    """Yield what lies below a folder, through links too, but not again what a link leads back to."""
    if classes and folder.is_symlink():
        classes.check(folder, of_class)
    real = folder.resolve()
    if real in above:
        return
    for entry in _inside(folder):
        yield entry
        if entry.is_dir():
            yield from _below(Path(entry.path), (*above, real), of_class, classes)


def _inside(folder: Path) -> list[os.DirEntry[str]]:
    """Return what lies in a folder, by name; what cannot be read must not be missing in silence."""
    try:
        with os.scandir(folder) as entries:
            inside = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"cannot read the folder {folder} ({error.strerror}): mend or remove it.") from None
    dead = {entry for entry in inside if entry.is_symlink() and not Path(entry.path).exists()}
    for entry in inside:
        if entry in dead and entry.name[0] != ".":
            leads = Path(entry.path).readlink()
            raise UserError(f"{entry.path} is a link to {leads}, which is not there: mend or remove it.")
    return [entry for entry in inside if entry not in dead]


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
    numbers = {name: number for number, name in enumerate(classes)}
    folders = _subfolders(folder)
    class_folders = _Classes(folders)
    for of_class in folders:
        if of_class.name not in numbers:
            hint = nearest(of_class.name, classes) or " Remove it, or add it to the training split."
            fault(f"{of_class} is not a class of the training split.{hint}")
            continue
        images = _images(of_class, class_folders)
        if not images:
            fault(
                f"{of_class} holds no image ({', '.join(sorted(SUFFIXES))}): add some or remove the folder."
            )
        names += [str(image.relative_to(folder)) for image in images]
        labels += [numbers[of_class.name]] * len(images)
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
    images = _images(train / classes[0], _Classes(_subfolders(train)))
    if not images:
        raise UserError(f"{train / classes[0]} holds no image: add some or remove the folder.")
    image = picture(Encoded(str(images[0]), images[0]))
    return Description.of_images((channels_of(image), image.height, image.width), len(classes))


def remarks(request: Request) -> Iterator[str]:
    """Yield a line for each split in which images lie that are not read, with their number."""
    folder = request.folder()
    for split in (_splits(folder) or {"": folder}).values():
        folders = _subfolders(split)
        class_folders = _Classes(folders)
        kinds = Counter(
            path.suffix.lower()
            for of_class in folders
            for path in _files(of_class, class_folders)
            if path.suffix.lower() in UNREAD
        )
        if kinds:
            listed = ", ".join(f"{count} {suffix}" for suffix, count in sorted(kinds.items()))
            yield (
                f"{split}: images of kinds that are not read are left out ({listed}): convert them to one of "
                f"{', '.join(sorted(SUFFIXES))}"
            )
        beside = sum(
            entry.is_file() and Path(entry.name).suffix.lower() in SUFFIXES | UNREAD and entry.name[0] != "."
            for entry in _inside(split)
        )
        if beside:
            yield f"{split}: {beside} images lie beside the class folders and are left out: move them"


@source(
    "folder:PATH",
    title="images as PATH/train/CLASS/* and PATH/test/CLASS/*, or PATH/CLASS/* with a fifth held out as test",
    reference="torchvision ImageFolder layout",
    describe=describe,
    classes=classes_of,
    remarks=remarks,
)
def load(request: Request) -> Raw:
    """Return the splits of a folder of images, under the current directory or the data root.

    Classes are the names of the folders in alphabetical order; images may lie in further folders below them,
    and links are followed, but for those to another class. Read are files that end in .jpg, .jpeg, .png,
    .ppm, .bmp, .pgm, .tif, .tiff or .webp. Without split folders, a stratified fifth
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
    examples = {role: Examples(Stored(files, decoder), labels) for role, (files, labels) in listings.items()}
    return Raw(examples["train"], examples["test"], classes, examples.get("validation"))
