from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from kdbench.data import Dataset, Description, dataset_sources, describe_dataset, load_dataset
from kdbench.data.images import refit


@pytest.fixture(autouse=True)
def without_data_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KDBENCH_DATA", raising=False)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


def test_digits_are_those_of_scikit_learn(digits: Dataset) -> None:
    assert describe_dataset("digits") == Description.of_images((1, 8, 8), 10)
    assert digits.inputs == describe_dataset("digits").inputs
    assert (len(digits.train), len(digits.validation), len(digits.test)) == (1078, 120, 599)
    assert digits.train.images.dtype == torch.uint8
    assert digits.train.labels.dtype == torch.int64
    bunch = load_digits()
    expected = {
        (tuple(image.ravel().astype(int)), label)
        for image, label in zip(bunch.images, bunch.target, strict=True)
    }
    for split in (digits.train, digits.validation, digits.test):
        levels = torch.round(split.images.double() * 16 / 255).int().flatten(1)
        assert {(tuple(x.tolist()), int(y)) for x, y in zip(levels, split.labels, strict=True)} <= expected
    assert int(digits.train.images.max()) == 255


def test_the_test_split_of_digits_never_changes(digits: Dataset) -> None:
    other = load_dataset("digits", split_seed=9, validation_fraction=0.3)
    assert torch.equal(other.test.images, digits.test.images)
    assert other.checksum == digits.checksum
    assert not torch.equal(other.validation.images[:100], digits.validation.images[:100])


def test_no_validation_part(digits: Dataset) -> None:
    data = load_dataset("digits", validation_fraction=0)
    assert len(data.train) == 1198
    assert data.validation.images.shape == (0, 8, 8, 1)
    assert data.validation.labels.shape == (0,)


def test_limits_are_balanced() -> None:
    data = load_dataset("digits", validation_fraction=0.5, args={"limit": 100, "limit_test": 50})
    assert torch.bincount(data.train.labels).tolist() == [5] * 10
    assert torch.bincount(data.validation.labels).tolist() == [5] * 10
    assert torch.bincount(data.test.labels).tolist() == [5] * 10


def test_size_and_channels_are_those_of_pillow(digits: Dataset) -> None:
    data = load_dataset("digits", args={"size": 12, "channels": 3})
    assert data.inputs.image_shape == (3, 12, 12)
    image = Image.fromarray(digits.test.images[5, ..., 0].numpy())
    expected = np.asarray(image.resize((12, 12), Image.Resampling.BILINEAR))
    for channel in range(3):
        assert (data.test.images[5, ..., channel].numpy() == expected).all()


def test_grey_is_pillow_s_luma() -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)
    weights = np.array([299, 587, 114]) / 1000
    luma = refit(images, None, 1)
    assert luma.shape == (4, 5, 6, 1)
    assert np.abs(luma[..., 0] - images @ weights).max() <= 0.51
    assert refit(images, None, 3) is images


@pytest.mark.parametrize(
    ("args", "texts"),
    [
        ({"sise": 3}, ["unknown dataset argument 'sise'. Did you mean 'size'?"]),
        ({"label": "x"}, ["unknown dataset argument 'label'."]),
        ({"size": 0}, ["size is 0: give a whole number of at least 1"]),
        ({"size": True}, ["size is True"]),
        ({"size": 2.5}, ["size is 2.5"]),
        ({"channels": 2}, ["channels is 2: give 1 (grey) or 3 (RGB)"]),
        ({"limit": "many"}, ["limit is 'many'"]),
        ({"limit": 5}, ["limit is 5: give at least one example a class (10)"]),
        ({"limit_test": 9}, ["limit_test is 9: give at least one example a class (10)"]),
        (
            {"limit": 12},
            ["class '2' has 1 example: it cannot be in both the training and the validation part"],
        ),
        ({"mean": 0.5}, ["mean is 0.5: give a list of numbers"]),
        ({"mean": []}, ["mean is []"]),
        ({"mean": [float("nan")]}, ["mean is [nan]"]),
        ({"mean": [0.5, 0.5]}, ["mean has 2 entries for images of 1 channel:"]),
        ({"std": [0.0]}, ["std is [0.0]: every entry must be above 0"]),
        ({"std": [1e-300]}, ["std is [1e-300]: every entry must be above 0"]),
        ({"mean": [1e300]}, ["mean is [1e+300]: give a list of numbers"]),
        ({"mean": [10**400]}, ["mean is [1000", "give a list of numbers"]),
        ({"size": 10**6}, ["size is 1000000: give 8192 at most"]),
        ({"limit": 10**400}, ["limit is 1000"]),
    ],
)
def test_bad_arguments(args: dict[str, Any], texts: list[str], message_of: Callable) -> None:
    message = message_of(lambda: load_dataset("digits", args=args))
    for text in texts:
        assert text in message


def test_describe_refuses_what_load_refuses(message_of: Callable) -> None:
    assert "2 entries" in message_of(lambda: describe_dataset("digits", args={"mean": [1, 2]}))
    found = describe_dataset("digits", args={"mean": [0.1, 0.2, 0.3], "channels": 3})
    assert found.inputs.image_shape[0] == 3


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5, float("nan")])
def test_fractions_out_of_range(fraction: float, message_of: Callable) -> None:
    message = message_of(lambda: load_dataset("digits", validation_fraction=fraction))
    assert f"validation_fraction is {fraction}: give a number from 0 to below 1" in message


@pytest.mark.parametrize(
    ("fraction", "text"),
    [(0.001, "leaves 1 in the validation part, fewer"), (0.999, "leaves 1 in the training part, fewer")],
)
def test_fractions_too_small_or_large_for_the_classes(
    fraction: float, text: str, message_of: Callable
) -> None:
    message = message_of(lambda: load_dataset("digits", validation_fraction=fraction))
    assert text in message
    assert "Change validation_fraction, or set it to 0." in message


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_out_of_range(seed: int, message_of: Callable) -> None:
    assert f"split_seed is {seed}" in message_of(lambda: load_dataset("digits", split_seed=seed))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("digts", "unknown dataset 'digts'. Did you mean 'digits'?"),
        ("parquet:", "dataset 'parquet:' names no folder: write parquet:PATH."),
        ("folder:nowhere", "dataset folder:nowhere: there is no folder nowhere."),
        ("mnist", "dataset mnist needs a data root: give --data-root or set KDBENCH_DATA."),
    ],
)
def test_names_that_lead_nowhere(name: str, text: str, message_of: Callable) -> None:
    assert text in message_of(lambda: load_dataset(name))


def test_the_environment_names_the_data_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, message_of: Callable
) -> None:
    monkeypatch.setenv("KDBENCH_DATA", str(tmp_path))
    message = message_of(lambda: load_dataset("folder:nowhere"))
    assert f"there is no folder nowhere or {tmp_path}/nowhere" in message


def test_the_listing_names_every_source() -> None:
    sources = dataset_sources()
    names = ["cifar10", "cifar100", "digits", "fashion-mnist", "mnist", "svhn"]
    patterns = ["folder:PATH", "package.module:factory", "parquet:PATH", "path/file.py:factory"]
    assert list(sources) == names + patterns
    assert all(source.title for source in sources.values())
    assert all(sources[name].reference for name in names)


def test_listing_and_describing_need_no_torch() -> None:
    code = (
        "import sys; from kdbench.data import dataset_sources, describe_dataset; dataset_sources();"
        "describe_dataset('cifar100');"
        "print([name for name in ('torch', 'sklearn', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
