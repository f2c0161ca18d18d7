"""Images in the Hugging Face parquet layout: train-*.parquet, test-*.parquet, validation-*.parquet."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdbench.data.dataset import Description, Examples, Raw
from kdbench.data.images import Decoder, Encoded, channels_of, picture
from kdbench.data.registry import Request, source
from kdbench.data.splits import VALIDATION_NAMES, roles
from kdbench.data.stored import Packed, Stored
from kdbench.errors import UserError, in_words, nearest
from kdbench.targets import USUAL, find_target

IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("label", "fine_label")
_BATCH = 1024


@dataclass(frozen=True)
class Layout:
    """A folder of parquet files: the files of each split, and the columns that hold image and label.

    ``further`` are columns of labels of further heads. ``named_classes`` holds the classes of each column of
    labels, None where the schema does not name them.
    """

    files: Mapping[str, Sequence[Path]]
    image: str
    label: str
    further: tuple[str, ...]
    named_classes: Mapping[str, tuple[str, ...] | None]

    def labels(self, split: str, column: str) -> NDArray[np.int64]:
        """Return the labels of a split that a column holds; raises UserError where some are missing."""
        parts = []
        for path in self.files[split]:
            with _reading(path) as file:
                _check_labels(path, file.schema_arrow, column)
                entries = file.read(columns=[column]).column(0)
            if entries.null_count:
                raise UserError(f"{path}: {entries.null_count} rows have no {column}: remove them.")
            parts.append(find_target(USUAL).stored(f"{path}, column {column},", entries.to_numpy()))
        return np.concatenate(parts)

    def classes(self, column: str) -> tuple[str, ...]:
        """Return the names of a column's classes: those of the schema, or the label values 0 .. K − 1."""
        named = self.named_classes[column]
        if named is not None:
            return named
        where = f"{self.files['train'][0].parent}, column {column},"
        count = find_target(USUAL).num_classes(where, (self.labels(split, column) for split in self.files))
        return tuple(map(str, range(count)))

    def heads(self) -> dict[str, tuple[str, ...]]:
        """Return the classes of the further heads."""
        return {column: self.classes(column) for column in self.further}

    def encoded(self, split: str, rows: NDArray[np.intp] | None = None) -> Iterator[Encoded]:
        """Yield the encoded images of a split, or of its ``rows`` (in ascending order) only."""
        start = 0
        for path in self.files[split]:
            start_of_file = start
            with _reading(path) as file:
                _check_images(path, file.schema_arrow, self.image)
                for batch in file.iter_batches(_BATCH, columns=[f"{self.image}.bytes"]):
                    stop = start + batch.num_rows
                    here = (
                        range(start, stop)
                        if rows is None
                        else rows[slice(*np.searchsorted(rows, (start, stop)))]
                    )
                    contents = batch.column(0).field("bytes")
                    for row in here:
                        where = f"{path} row {row - start_of_file}"
                        content = contents[int(row) - start].as_py()
                        yield Encoded(where, content or b"")
                    start = stop


@dataclass(frozen=True, eq=False)
class Rows:
    """A shelf of rows of a split, in ascending order.

    Parquet files give rows in groups, which are read as a whole: one group an image would be slow, so that
    the images are copied out once before they are read in another order.
    """

    layout: Layout
    split: str
    rows: NDArray[np.intp]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.rows)

    def __iter__(self) -> Iterator[Encoded]:
        """Read the images in their order."""
        return self.layout.encoded(self.split, self.rows)

    def take(self, rows: NDArray[np.intp]) -> Rows:
        """Return the shelf of the images at ``rows``, which are in ascending order."""
        return Rows(self.layout, self.split, self.rows[rows])

    def opened(self, scratch: Path | None) -> Packed:
        """Return a copy of the images that gives any of them at once."""
        return Packed.of(self, scratch)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        reason = in_words(error)
        raise UserError(f"cannot read {path} ({reason}): fetch the file again.") from error


def files_of(folder: Path) -> dict[str, list[Path]]:
    """Return the parquet files of each split in a folder, in order; empty where there are none."""
    splits = {}
    for split in ("train", "test", *VALIDATION_NAMES):
        files = sorted({*folder.glob(f"{split}-*.parquet"), *folder.glob(f"{split}.parquet")})
        if files:
            splits[split] = files
    return splits


def layout(
    folder: Path, *, image: str | None = None, label: str | None = None, further: tuple[str, ...] = ()
) -> Layout:
    """Read the layout of a folder from its file names and the schema of the first training file.

    Raises UserError where files or columns are missing or are not of the Hugging Face image layout.
    """
    splits = files_of(folder)
    files = {role: splits[name] for role, name in roles(splits, f"parquet folder {folder}").items()}
    path = files["train"][0]
    with _reading(path) as file:
        schema = file.schema_arrow
    image = _column(schema, path, "dataset argument image", image, IMAGE_COLUMNS)
    label = _column(schema, path, "dataset argument label", label, LABEL_COLUMNS)
    labels = [label, *(_column(schema, path, "dataset.heads", name, ()) for name in further)]
    if len(set(labels)) != len(labels):
        raise UserError(f"dataset.heads: '{label}' is the dataset's own head: name other columns of {path}.")
    _check_images(path, schema, image)
    for name in labels:
        _check_labels(path, schema, name)
    named = {name: _class_names(path, schema.metadata or {}, name) for name in labels}
    return Layout(files, image, label, further, named)


def _column(schema: Any, path: Path, asking: str, name: str | None, usual: tuple[str, ...]) -> str:
    if name is None:
        name = next((column for column in usual if column in schema.names), None)
        if name is None:
            raise UserError(
                f"{path} has no column {' or '.join(usual)} (it has {', '.join(schema.names)}): "
                f"name it with the {asking}."
            )
    if name not in schema.names:
        hint = nearest(str(name), schema.names) or f" Columns: {', '.join(schema.names)}."
        raise UserError(f"{path} has no column '{name}' ({asking}).{hint}")
    return name


def _check_images(path: Path, schema: Any, column: str) -> None:
    import pyarrow as pa

    kind = _kind(path, schema, column)
    inner = (
        kind.field("bytes").type if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 else None
    )
    if inner is None or not (pa.types.is_binary(inner) or pa.types.is_large_binary(inner)):
        raise UserError(f"{path}: column {column} is {kind}; images are a struct of bytes and path.")


def _check_labels(path: Path, schema: Any, column: str) -> None:
    import pyarrow as pa

    if not pa.types.is_integer(kind := _kind(path, schema, column)):
        raise UserError(f"{path}: column {column} is {kind}; labels are whole numbers 0 .. K-1.")


def _kind(path: Path, schema: Any, column: str) -> Any:
    if schema.names.count(column) != 1:
        raise UserError(f"{path} has {schema.names.count(column)} columns '{column}': all files have one.")
    return schema.field(column).type


def _class_names(path: Path, metadata: Mapping[bytes, bytes], label: str) -> tuple[str, ...] | None:
    """Return the names of classes that the schema's metadata hold: JSON of anybody's."""
    try:
        names = json.loads(metadata.get(b"huggingface", b"{}"))
    except (ValueError, RecursionError):
        raise UserError(f"{path}: its metadata 'huggingface' are no JSON: write the file again.") from None
    for key in ("info", "features", label, "names"):
        names = names.get(key) if isinstance(names, dict) else None
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise UserError(f"{path}: its metadata do not name the classes of {label} in a list of texts.")
    return tuple(names) if names else None


def read(layout: Layout, request: Request) -> Raw:
    """Return every split of a layout, or of train and test the rows that the limits keep, still on disk."""
    options = request.options
    classes = layout.classes(layout.label)
    shelves, columns = {}, {}
    for split in layout.files:
        labels = layout.labels(split, layout.label)
        rows = options.kept(split, labels, len(classes))
        rows = np.arange(len(labels)) if rows is None else rows
        if not len(rows):
            raise UserError(f"{layout.files[split][0]}: the {split} split has no rows.")
        further = {column: layout.labels(split, column)[rows] for column in layout.further}
        shelves[split] = Rows(layout, split, rows)
        columns[split] = labels[rows], further
    decoder = Decoder(options.size, options.channels, shelves["train"], request.fault)
    splits = {name: Examples(Stored(shelf, decoder), *columns[name]) for name, shelf in shelves.items()}
    return Raw(splits["train"], splits["test"], classes, splits.get("validation"), layout.heads())


def _layout_of(request: Request) -> Layout:
    own = request.options.own
    return layout(request.folder(), image=own.get("image"), label=own.get("label"), further=request.heads)


def classes_of(request: Request) -> tuple[str, ...]:
    """Look at the schema, and at the labels where it names no classes."""
    layout = _layout_of(request)
    return layout.classes(layout.label)


def describe(request: Request) -> Description:
    """Look at the schema and the first image only."""
    layout = _layout_of(request)
    first = next(layout.encoded("train"), None)
    if first is None:
        raise UserError(f"{layout.files['train'][0]}: the train split has no rows.")
    image = picture(first)
    shape = (channels_of(image), image.height, image.width)
    return Description.of_images(shape, len(layout.classes(layout.label)))


@source(
    "parquet:PATH",
    title="a folder of train-*.parquet and test-*.parquet files with encoded images; args: image, label",
    reference="Hugging Face datasets, image layout",
    describe=describe,
    options=("image", "label"),
    classes=classes_of,
    further=lambda request: _layout_of(request).heads(),
)
def load(request: Request) -> Raw:
    """Return the splits of a folder of parquet files, under the current directory or the data root."""
    return read(_layout_of(request), request)
