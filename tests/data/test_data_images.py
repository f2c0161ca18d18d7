"""Pictures as a person sees them: turned by EXIF, opaque on white, eight bits, and what is left as it was."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays
from PIL import ExifTags, Image, ImageOps

from kdbench.data import describe_dataset, load_dataset
from kdbench.data.images import Encoded, channels_of, picture, pixels

# The checksum of ten such pictures in two folders, of before pictures were turned and made opaque.
CHECKSUM = "9c9ff34da5d35ce6aa4e564f2c47cb05160f4a8b27696af56758c72dae503509"
CORNERS = np.arange(6 * 4 * 3, dtype=np.uint8).reshape(4, 6, 3) * 3


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> Encoded:
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return Encoded("test image", buffer.getvalue())


def shown(content: Encoded, channels: int = 3) -> np.ndarray:
    return pixels(picture(content), None, channels)


def with_orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = value
    return exif


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_pillow_turns_them(orientation: int, format: str) -> None:
    options = {"lossless": True} if format == "WEBP" else {}
    content = encoded(Image.fromarray(CORNERS), format, exif=with_orientation(orientation), **options)
    stored = Image.fromarray(CORNERS)
    stored.getexif()[ExifTags.Base.Orientation] = orientation
    assert (shown(content) == np.asarray(ImageOps.exif_transpose(stored))).all()


def test_damaged_metadata_leave_the_picture_as_it_is_stored() -> None:
    content = encoded(Image.fromarray(CORNERS), exif=b"Exif\x00\x00no such thing")
    assert (shown(content) == CORNERS).all()


@given(arrays(np.uint8, (3, 5, 4)))
def test_transparent_pixels_lie_on_white(rgba: np.ndarray) -> None:
    alpha = rgba[..., 3:].astype(float) / 255
    expected = rgba[..., :3] * alpha + 255 * (1 - alpha)
    found = shown(encoded(Image.fromarray(rgba)))
    assert np.abs(found - expected).max() <= 1  # rounded
    grey = Image.fromarray(rgba[..., [0, 3]], mode="LA")
    assert np.abs(shown(encoded(grey), 1)[..., 0] - expected[..., 0]).max() <= 1
    opaque = rgba.copy()
    opaque[..., 3] = 255
    assert (shown(encoded(Image.fromarray(opaque))) == rgba[..., :3]).all()


def test_a_palette_and_a_colour_that_are_transparent_are_white() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putdata([0, 1])
    assert shown(encoded(palette)).tolist() == [[[10, 20, 30], [40, 50, 60]]]
    assert shown(encoded(palette, transparency=0)).tolist() == [[[255] * 3, [40, 50, 60]]]
    grey = Image.fromarray(np.array([[7, 200]], dtype=np.uint8))
    assert shown(encoded(grey, transparency=7), 1)[..., 0].tolist() == [[255, 200]]
    colour = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], dtype=np.uint8))
    assert shown(encoded(colour, transparency=(1, 2, 3))).tolist() == [[[255] * 3, [4, 5, 6]]]


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_of_sixteen_bits_the_higher_eight_are_kept(format: str) -> None:
    values = np.array([[0, 255, 256, 1000, 65535]], dtype=np.uint16)
    content = encoded(Image.fromarray(values), format)
    assert channels_of(picture(content)) == 1
    assert shown(content, 1)[..., 0].tolist() == [[0, 0, 1, 3, 255]]


def test_cmyk_is_seen_in_colour() -> None:
    red = Image.new("CMYK", (2, 2), (0, 255, 255, 0))
    assert shown(encoded(red, "TIFF"))[0, 0].tolist() == [255, 0, 0]


def test_only_such_pictures_change_the_checksum(tmp_path: Path, write_images: Callable) -> None:
    for label in ("a", "b"):
        write_images(tmp_path / label, [CORNERS[:4, :4]] * 5)
    setting = {"validation_fraction": 0}
    before = load_dataset(f"folder:{tmp_path}", **setting).checksum
    assert before == CHECKSUM
    turned = Image.fromarray(CORNERS[:4, :4])
    turned.save(tmp_path / "a" / "000.png", exif=with_orientation(3))
    assert load_dataset(f"folder:{tmp_path}", **setting).checksum != before


def test_a_turned_picture_gives_its_shape_in_files_and_in_parquet(
    tmp_path: Path, write_parquet: Callable
) -> None:
    content = encoded(Image.fromarray(CORNERS), exif=with_orientation(6))
    for split in ("train", "test"):
        write_parquet(tmp_path / "table" / f"{split}.parquet", [content.content] * 4, [0, 1, 0, 1])
        for label in ("a", "b"):
            (tmp_path / "files" / split / label).mkdir(parents=True)
            (tmp_path / "files" / split / label / "0.png").write_bytes(content.content)  # type: ignore[arg-type]
    for name in (f"parquet:{tmp_path}/table", f"folder:{tmp_path}/files"):
        assert describe_dataset(name).inputs.image_shape == (3, 6, 4)
        data = load_dataset(name, validation_fraction=0)
        assert data.inputs.image_shape == (3, 6, 4)
        assert (data.test.images[0].numpy() == shown(content)).all()
