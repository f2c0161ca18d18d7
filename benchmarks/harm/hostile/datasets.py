"""Data that is damaged or senseless: parquet files, folders of images."""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from harm.fixtures import RUN, Fixtures
from harm.trial import SOUND, SUITE, Trial

FOLDER = "images"
ROWS = 24


def png(value: int = 0, size: int = 8) -> bytes:
    image = np.full((size, size), value % 256, np.uint8)
    image[0, :] = np.arange(size)
    Image.fromarray(image).save(buffer := io.BytesIO(), "png")
    return buffer.getvalue()


def _says_it_is_large() -> bytes:
    """Return a PNG whose header promises 60,000 × 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def parquet(
    labels: Sequence[Any],
    images: Sequence[bytes | None] | None = None,
    *,
    label: str = "label",
    image: str = "img",
    kind: pa.DataType | None = None,
    said: Any = None,
) -> bytes:
    """Return a file of images and labels; ``said`` is what its schema says of itself."""
    contents = [png(n) for n in range(len(labels))] if images is None else images
    structs = pa.array([{"bytes": content, "path": None} for content in contents], STRUCT)
    table = pa.table({image: structs, label: pa.array(list(labels), kind)})
    if said is not None:
        text = said if isinstance(said, str) else json.dumps({"info": {"features": said}})
        table = table.replace_schema_metadata({"huggingface": text})
    pq.write_table(table, buffer := io.BytesIO())
    return buffer.getvalue()


STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
HALVES = [n % 2 for n in range(ROWS)]


def _one(value: Any) -> list[Any]:
    return [*HALVES[:-1], value]


def _images(value: bytes | None) -> bytes:
    return parquet(HALVES, [*[png(n) for n in range(ROWS - 1)], value])


def _named(names: Any) -> bytes:
    return parquet(HALVES, said={"img": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}})


def contents() -> dict[str, bytes]:
    """Return the training file by what is wrong with it."""
    whole = parquet(HALVES)
    middle = bytearray(whole)
    middle[len(middle) // 3] ^= 0xFF
    return {
        "label-of-2**62": parquet(_one(2**62)),
        "label-of-2**40": parquet(_one(2**40)),
        "label-of-100-million": parquet(_one(10**8)),
        "label-of-minus-1": parquet(_one(-1)),
        "label-of-minus-2**63": parquet(_one(-(2**63))),
        "label-of-2**64-minus-1": parquet(_one(2**64 - 1), kind=pa.uint64()),
        "labels-are-nan": parquet([float("nan")] * ROWS),
        "labels-are-fractions": parquet([n / 2 for n in HALVES]),
        "labels-are-infinite": parquet(_one(float("inf")), kind=pa.float64()),
        "labels-are-texts": parquet(["a", "b"] * (ROWS // 2)),
        "labels-are-null": parquet([None] * ROWS, kind=pa.int64()),
        "label-is-null": parquet(_one(None)),
        "labels-are-lists": parquet([[0], [1]] * (ROWS // 2)),
        "labels-are-dates": parquet([0, 1] * (ROWS // 2), kind=pa.timestamp("s")),
        "label-beyond-the-names": parquet(
            _one(7), said={"label": {"_type": "ClassLabel", "names": ["a", "b"]}}
        ),
        "no-labels": parquet(HALVES, label="nobody"),
        "no-images": parquet(HALVES, image="nobody"),
        "no-rows": parquet([], [], kind=pa.int64()),
        "one-row": parquet([0]),
        "one-class": parquet([0] * ROWS),
        "names-with-escapes": _named(["\x1b[2J", "a\nb"]),
        "names-twice": _named(["a", "a"]),
        "names-are-numbers": _named([1, 2]),
        "names-are-text": _named("ab"),
        "names-of-a-surrogate": _named(["\ud800", "b"]),
        "names-of-100000-letters": _named(["x" * 100_000, "b"]),
        "schema-of-noise": parquet(HALVES, said="{" * 5_000),
        "schema-deep": parquet(HALVES, said="[" * 100_000),
        "schema-is-list": parquet(HALVES, said=[1]),
        "image-is-noise": _images(bytes(range(250))),
        "image-is-empty": _images(b""),
        "image-is-null": _images(None),
        "image-is-cut-short": _images(png()[:50]),
        "image-says-it-is-large": _images(_says_it_is_large()),
        "image-of-another-size": _images(png(size=9)),
        "image-is-text": _images(b"<svg/>"),
        "empty-file": b"",
        "text-file": b"these are no images\n",
        "half": whole[: len(whole) // 2],
        "flipped-in-the-middle": bytes(middle),
        "noise": bytes((n * 7919) % 251 for n in range(5_000)),
    }


def suite(dataset: Any) -> str:
    return json.dumps(SOUND | {"dataset": dataset})


COMMANDS = (("check", SUITE, "--data"), ("plan", SUITE), ("run", SUITE, "--out", RUN))


def _folders(work: Path, names: Sequence[str] = ("a", "b")) -> Path:
    """Make a folder of sound images."""
    for split in ("train", "test"):
        for name in names:
            (folder := work / FOLDER / split / name).mkdir(parents=True)
            for n in range(ROWS // 2):
                (folder / f"{n}.png").write_bytes(png(n))
    return work / FOLDER / "train"


def _but(change: Callable[[Path], object]) -> Callable[[Path, Fixtures], object]:
    return lambda work, fixtures: change(_folders(work))


def _empty_class(train: Path) -> None:
    (train / "c").mkdir()


def _class_of_training_only(train: Path) -> None:
    (train / "c").mkdir()
    (train / "c" / "0.png").write_bytes(png())


def _class_of_test_only(train: Path) -> None:
    (folder := train.parent / "test" / "c").mkdir()
    (folder / "0.png").write_bytes(png())


def _folder_for_image(train: Path) -> None:
    (train / "a" / "x.png").mkdir()


FOLDERS: dict[str, Callable[[Path, Fixtures], object]] = {
    "missing": lambda work, fixtures: None,
    "empty": lambda work, fixtures: (work / FOLDER).mkdir(),
    "is-a-file": lambda work, fixtures: (work / FOLDER).write_text("x"),
    "is-a-pipe": lambda work, fixtures: os.mkfifo(work / FOLDER),
    "empty-class": _but(_empty_class),
    "class-of-training-only": _but(_class_of_training_only),
    "class-of-test-only": _but(_class_of_test_only),
    "image-links-to-nothing": _but(lambda train: (train / "a" / "x.png").symlink_to("nobody.png")),
    "image-links-to-itself": _but(lambda train: (train / "a" / "x.png").symlink_to("x.png")),
    "image-links-to-a-device": _but(lambda train: (train / "a" / "x.png").symlink_to("/dev/zero")),
    "image-is-a-pipe": _but(lambda train: os.mkfifo(train / "a" / "x.png")),
    "image-is-empty": _but(lambda train: (train / "a" / "x.png").touch()),
    "image-is-text": _but(lambda train: (train / "a" / "x.png").write_text("x")),
    "image-is-cut-short": _but(lambda train: (train / "a" / "x.png").write_bytes(png()[:50])),
    "image-says-it-is-large": _but(lambda train: (train / "a" / "x.png").write_bytes(_says_it_is_large())),
    "image-of-another-size": _but(lambda train: (train / "a" / "x.png").write_bytes(png(size=9))),
    "class-links-to-another": _but(lambda train: (train / "c").symlink_to("a")),
    "class-links-to-its-parent": _but(lambda train: (train / "a" / "c").symlink_to("..")),
    "class-links-to-nothing": _but(lambda train: (train / "c").symlink_to("nobody")),
    "one-class": lambda work, fixtures: _folders(work, ["a"]),
}
# What may be learned from all the same: a check tells of it, or nothing is wrong.
ALLOWED = (
    *("class-links-to-its-parent", "class-links-to-nothing", "empty-class", "image-is-a-pipe"),
    *("image-links-to-a-device", "names-are-numbers", "flipped-in-the-middle", "names-twice"),
    *("schema-is-list", "schema-of-noise", "schema-deep"),
)


def trials() -> Iterator[Trial]:
    """Yield each file and each folder with check, plan and run."""
    # A check or a plan need not read what a run will refuse.
    first = Trial("datasets", "", COMMANDS[:2], statuses=(0, 1, 2))
    for label, content in contents().items():
        files: dict[str, str | bytes] = {
            "data/train-0.parquet": content,
            "data/test-0.parquet": parquet(HALVES),
            SUITE: suite("parquet:data"),
        }
        yield from _both(first, f"parquet-{label}", files, None, label in ALLOWED)
    for label, prepare in FOLDERS.items():
        yield from _both(
            first, f"folder-{label}", {SUITE: suite(f"folder:{FOLDER}")}, prepare, label in ALLOWED
        )
    for label, names in (
        ("escapes", ("\x1b[2J", "b")),
        ("newline", ("a\nb", "c")),
        ("markup", ("[red]", "<b>")),
    ):
        yield Trial(
            "datasets",
            f"folder-names-with-{label}",
            COMMANDS,
            {SUITE: suite(f"folder:{FOLDER}")},
            lambda work, fixtures, names=names: _folders(work, names),  # type: ignore[misc]
            statuses=(0, 1, 2),
        )


def _both(
    first: Trial, label: str, files: dict[str, str | bytes], prepare: Any, allowed: bool
) -> Iterator[Trial]:
    yield Trial("datasets", f"{label}-checked", first.commands, files, prepare, first.statuses)
    statuses = (0, 1, 2) if allowed else (2,)
    yield Trial("datasets", f"{label}-run", COMMANDS[2:], files, prepare, statuses)
