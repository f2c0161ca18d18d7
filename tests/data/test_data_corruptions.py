"""Corruptions: closed forms, other libraries, and what holds for each: range, severity, determinism."""

from __future__ import annotations

import colorsys
import doctest
import importlib
import io
import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import integrate, stats
from sklearn.datasets import load_sample_images
from torch import Tensor

from kdbench.cli.listing import LISTINGS
from kdbench.data.corruptions import SEVERITIES, corrupt, corruptions, registry
from kdbench.data.corruptions.blur import disc
from kdbench.data.corruptions.jpeg import CHROMA, LUMA, scaled
from kdbench.errors import UserError
from tests.registries import reopen

NAMES = tuple(corruptions())
RANDOM = {"gaussian_noise", "shot_noise", "impulse_noise", "motion_blur", "haze", "elastic"}
CIFAR_10_C = {"gaussian_noise", "shot_noise", "impulse_noise", "brightness", "contrast", "pixelate", "jpeg"}


@pytest.fixture(scope="module")
def photographs() -> Tensor:
    """Patches (24, 32, 32, 3) of two photographs, at half their resolution."""
    patches = []
    for picture in load_sample_images().images:
        small = np.asarray(Image.fromarray(picture).resize((320, 213), Image.Resampling.BOX))
        patches += [small[r : r + 32, c : c + 32] for r in (40, 100, 160) for c in (20, 100, 180, 260)]
    return torch.from_numpy(np.stack(patches))


def flat(value: int, shape: tuple[int, ...] = (64, 28, 28, 1)) -> Tensor:
    return torch.full(shape, value, dtype=torch.uint8)


def level(name: str, severity: int) -> float:
    return corruptions()[name].levels[severity - 1]


def test_the_issue_is_covered_and_every_source_says_whose_it_is() -> None:
    assert set(NAMES) == CIFAR_10_C | {"defocus_blur", "motion_blur", "haze", "elastic"}
    for entry in corruptions().values():
        assert entry.source.startswith("CIFAR-10-C") == (entry.name in CIFAR_10_C), entry
        assert entry.source.startswith("kdbench's own") == (entry.name not in CIFAR_10_C), entry
        assert len(entry.levels) == len(SEVERITIES) and entry.title and entry.level


def test_a_corruption_in_a_new_file_is_listed_behind_the_known_families(monkeypatch) -> None:
    reopen(registry.CORRUPTIONS, monkeypatch)
    for name, module in (("night", "users.time_of_day"), ("dusk", "users.time_of_day"), ("rain", "drops")):

        def darkened(images: Tensor, level: float, chance: object) -> Tensor:
            return images * level

        darkened.__module__ = module
        levels = (0.9, 0.8, 0.7, 0.6, 0.5)
        registry.corruption(name, title="x", level="factor", levels=levels, source="users")(darkened)
    assert tuple(corruptions()) == (*NAMES, "rain", "night", "dusk")
    assert [entry.name for entry in registry.selected(["all"])] == list(corruptions())
    assert {"rain", "night"} < {row["name"] for row in LISTINGS["corruptions"]()}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(5, 8, 8, 1), (5, 28, 28, 1), (3, 32, 32, 3), (2, 65, 50, 3)])
def test_type_shape_and_range_stay(name: str, shape: tuple[int, ...]) -> None:
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for severity in (1, 5):
        found = corrupt(images, name, severity)
        assert found.dtype == torch.uint8 and found.shape == images.shape and found.is_contiguous()
        floats = corrupt(images / 255, name, severity)
        assert floats.dtype == torch.float32 and floats.min() >= 0 and floats.max() <= 1
        assert (255 * floats - found).abs().max() <= 0.501, "8 bits are the rounded numbers"


@pytest.mark.parametrize("name", NAMES)
def test_damage_grows_with_severity(name: str, photographs: Tensor) -> None:
    errors = [
        float((corrupt(photographs, name, severity).double() - photographs).square().mean())
        for severity in SEVERITIES
    ]
    assert errors == sorted(errors) and errors[0] > 1 and errors[4] > 1.5 * errors[0], errors


@pytest.mark.parametrize("name", NAMES)
def test_an_image_looks_the_same_in_every_batch(name: str, photographs: Tensor) -> None:
    images = photographs.repeat(6, 1, 1, 1)[:140]
    whole = corrupt(images, name, 3, seed=5)
    parts = [corrupt(part, name, 3, rows=rows, seed=5) for part, rows in _pieces(images, (1, 70, 69))]
    # Convolutions of another batch size may add in another order: a pixel may round the other way.
    assert (torch.cat(parts).int() - whole.int()).abs().max() <= 1
    some = torch.tensor([139, 3, 64])
    assert (corrupt(images[some], name, 3, rows=some, seed=5).int() - whole[some].int()).abs().max() <= 1
    assert torch.equal(corrupt(images, name, 3, seed=5), whole)


def _pieces(images: Tensor, sizes: tuple[int, ...]) -> list[tuple[Tensor, Tensor]]:
    rows = torch.arange(len(images))
    return list(zip(images.split(list(sizes)), rows.split(list(sizes)), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_only_what_is_random_differs_by_seed_and_row(name: str, photographs: Tensor) -> None:
    twice = photographs[:1].repeat(2, 1, 1, 1)
    first, second = corrupt(twice, name, 5)
    assert torch.equal(first, second) == (name not in RANDOM)
    assert torch.equal(first, corrupt(twice, name, 5, seed=1)[0]) == (name not in RANDOM)


def test_gaussian_noise_has_its_standard_deviation_and_is_normal() -> None:
    noise = (corrupt(torch.full((64, 28, 28, 1), 0.5), "gaussian_noise", 5) - 0.5).flatten().double()
    assert noise.mean().abs() < 4 * 0.10 / math.sqrt(len(noise))
    assert float(noise.std()) == pytest.approx(0.10, rel=0.02)
    assert stats.kstest(noise / 0.10, "norm").pvalue > 0.001


@pytest.mark.parametrize("severity", SEVERITIES)
def test_shot_noise_is_poisson(severity: int) -> None:
    photons = level("shot_noise", severity)
    rate = photons * 102 / 255
    counts = (photons * corrupt(torch.full((64, 28, 28, 1), 102 / 255), "shot_noise", severity)).flatten()
    assert torch.allclose(counts, counts.round(), atol=1e-3)
    assert float(counts.mean()) == pytest.approx(rate, abs=4 * math.sqrt(rate / len(counts)))
    assert float(counts.double().var()) == pytest.approx(rate, rel=0.03)
    k = np.arange(int(rate - math.sqrt(rate)), int(rate + math.sqrt(rate)))
    found = [(counts.round() <= value).double().mean().item() for value in k]
    assert np.abs(found - stats.poisson.cdf(k, rate)).max() < 0.01


def test_shot_noise_leaves_black_black() -> None:
    assert corrupt(flat(0), "shot_noise", 5).max() == 0


@pytest.mark.parametrize("severity", SEVERITIES)
def test_impulse_noise_loses_its_share_evenly_to_black_and_white(severity: int) -> None:
    found = corrupt(flat(100), "impulse_noise", severity)
    share = level("impulse_noise", severity)
    tolerance = 4 * math.sqrt(share / found.numel())
    for end in (0, 255):
        assert float((found == end).double().mean()) == pytest.approx(share / 2, abs=tolerance)
    assert set(found.unique().tolist()) == {0, 100, 255}


def test_brightness_raises_the_value_of_hsv(photographs: Tensor) -> None:
    found = corrupt(photographs[:2, ::4, ::4] / 255, "brightness", 3).reshape(-1, 3).tolist()
    for before, after in zip((photographs[:2, ::4, ::4] / 255).reshape(-1, 3).tolist(), found, strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*before)
        assert after == pytest.approx(colorsys.hsv_to_rgb(hue, saturation, min(1, value + 0.15)), abs=1e-6)
    assert corrupt(flat(0), "brightness", 5).unique().tolist() == [round(0.3 * 255)]


def test_contrast_moves_pixels_towards_the_mean_of_their_channel(photographs: Tensor) -> None:
    x = photographs.numpy() / 255
    mean = x.mean(axis=(1, 2), keepdims=True)
    for severity in SEVERITIES:
        expected = np.clip(mean + level("contrast", severity) * (x - mean), 0, 1)
        assert np.allclose(corrupt(photographs / 255, "contrast", severity), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["defocus_blur", "motion_blur", "elastic", "pixelate", "contrast", "jpeg"])
def test_a_constant_image_has_nothing_to_blur(name: str) -> None:
    for severity in SEVERITIES:
        assert corrupt(flat(128, (3, 28, 28, 1)), name, severity).unique().tolist() == [128]


def overlap(radius: float, i: int, j: int) -> float:
    """The area of a disc that lies on pixel (i, j), by integration."""

    def height(x: float) -> float:
        reach = math.sqrt(max(0.0, radius**2 - x**2))
        return max(0.0, min(reach, i + 0.5) - max(-reach, i - 0.5))

    return float(integrate.quad(height, j - 0.5, j + 0.5, limit=200)[0])


@pytest.mark.parametrize("radius", [0.5, 0.8, 1.0, 2.2])
def test_the_disc_of_defocus_covers_pixels_by_area(radius: float) -> None:
    kernel = disc(radius)
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-6)
    half = len(kernel) // 2
    places = range(-half, half + 1)
    areas = np.array([[overlap(radius, i, j) for j in places] for i in places])
    assert areas.sum() == pytest.approx(math.pi * radius**2, rel=1e-4), "the disc lies within the kernel"
    assert kernel.numpy() == pytest.approx(areas / areas.sum(), abs=0.01)


def test_lengths_grow_with_the_image_but_do_not_shrink(photographs: Tensor) -> None:
    dot = torch.zeros(1, 224, 224, 1)
    dot[0, 112, 112] = 1
    lit = (corrupt(dot, "defocus_blur", 5) > 0).sum()
    assert float(lit) == pytest.approx(math.pi * (2.2 * 7) ** 2, rel=0.08)
    small = torch.zeros(1, 9, 9, 1)
    small[0, 4, 4] = 1
    medium = torch.zeros(1, 32, 32, 1)
    medium[0, 16, 16] = 1
    assert (corrupt(small, "defocus_blur", 5) > 0).sum() == (corrupt(medium, "defocus_blur", 5) > 0).sum()


def test_motion_keeps_light_on_a_line_of_its_length() -> None:
    dots = torch.zeros(40, 33, 33, 1)
    dots[:, 16, 16] = 1
    found = corrupt(dots, "motion_blur", 5)[..., 0].double()
    assert torch.allclose(found.sum((1, 2)), torch.ones(40).double(), atol=1e-4)
    i, j = torch.meshgrid(torch.arange(33.0) - 16, torch.arange(33.0) - 16, indexing="ij")
    points = torch.stack([i, j]).double()
    spread = torch.einsum("aij,bij,nij->nab", points, points, found)
    thin, along = torch.linalg.eigvalsh(spread).unbind(1)
    length = level("motion_blur", 5) * 33 / 32
    # The variance of n even points of a line is (length² / 12) · (n + 1) / (n − 1); bilinear weights add.
    assert (along.mean() / (length**2 / 12)).item() == pytest.approx(21 / 19, rel=0.05)
    assert thin.max() < 0.5


def test_haze_follows_the_law_of_scattering() -> None:
    black, grey = (
        corrupt(torch.zeros(9, 28, 28, 1), "haze", 4),
        corrupt(torch.full((9, 28, 28, 1), 0.5), "haze", 4),
    )
    through = 1 - black
    assert torch.allclose(grey, 0.5 * through + black, atol=1e-6)
    depth = -through.log() / level("haze", 4)
    assert depth.min() >= 0.5 - 1e-5 and depth.max() <= 1.5 + 1e-5
    assert float(depth.mean()) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("side", [28, 32])
def test_pixelate_is_pillows_box_filter_down_and_up(severity: int, side: int, photographs: Tensor) -> None:
    images = photographs[:, :side, :side]
    small = int(level("pixelate", severity) * side)
    for image, found in zip(images.numpy(), corrupt(images, "pixelate", severity).numpy(), strict=True):
        down = Image.fromarray(image).resize((small, small), Image.Resampling.BOX)
        expected = np.asarray(down.resize((side, side), Image.Resampling.BOX))
        assert np.abs(expected.astype(int) - found).max() <= 1  # Pillow rounds in between


def _as_jpeg(image: np.ndarray, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("side", [28, 31, 32])
def test_jpeg_equals_pillows_but_for_rounding(severity: int, side: int, photographs: Tensor) -> None:
    quality = int(level("jpeg", severity))
    colour = photographs[:, :side, :side]
    grey = colour.float().mean(3, keepdim=True).round().to(torch.uint8)
    for images, mean, within_two in ((colour, 0.5, 0.95), (grey, 0.3, 0.96)):
        theirs = np.stack([np.asarray(_as_jpeg(image.squeeze(), quality)) for image in images.numpy()])
        found = corrupt(images, "jpeg", severity).numpy()
        gap = np.abs(theirs.reshape(found.shape).astype(int) - found)
        assert gap.mean() < mean and (gap <= 2).mean() > within_two
        assert gap.mean() < 0.2 * np.abs(theirs.reshape(found.shape).astype(int) - images.numpy()).mean()


@pytest.mark.parametrize("quality", [1, 10, 40, 49, 50, 58, 80, 100])
def test_quantisation_tables_are_those_that_a_file_carries(quality: int, photographs: Tensor) -> None:
    tables = _as_jpeg(photographs[0].numpy(), quality).quantization  # type: ignore[attr-defined]
    assert tuple(tables[0]) == scaled(LUMA, quality)
    assert tuple(tables[1]) == scaled(CHROMA, quality)


def test_the_listing_is_the_table_of_them_and_needs_no_torch() -> None:
    program = (
        "import json, sys\n"
        "from kdbench.cli.listing import LISTINGS, listing_table\n"
        "rows = LISTINGS['corruptions']()\n"
        "listing_table('corruptions', rows)\n"
        "assert 'torch' not in sys.modules\n"
        "print(json.dumps(rows))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    rows = json.loads(done.stdout)
    assert [row["name"] for row in rows] == list(NAMES)
    assert rows[0]["severities"] == [0.04, 0.06, 0.08, 0.09, 0.1] and rows[0]["family"] == "noise"


@pytest.mark.parametrize("module", ["corruptions.registry", "corruptions.jpeg", "imbalance"])
def test_examples_of_docstrings_hold(module: str) -> None:
    found = doctest.testmod(importlib.import_module(f"kdbench.data.{module}"))
    assert found.attempted and not found.failed


def test_unknown_names_and_severities_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"unknown corruption 'gausian_noise'\. Did you mean 'gaussian_noise'"
    ):
        corrupt(flat(0), "gausian_noise", 1)
    with pytest.raises(ValueError, match="severity is 6, expected 1 to 5"):
        corrupt(flat(0), "jpeg", 6)
