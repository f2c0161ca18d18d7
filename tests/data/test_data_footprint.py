"""How much memory a dataset takes, told before it is read, is what it takes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kdbench.data import Augment, Batches, dataset_sources, load_dataset, measure_dataset
from kdbench.data.batches import Held
from kdbench.data.dataset import Extent
from kdbench.data.footprint import SPLITS, Footprint, footprint
from kdbench.inputs import Field, InputSpec
from kdbench.progress import Progress


class Listening(Progress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def pets(tmp_path: Path, write_images: Callable) -> str:
    for split, count in (("train", 20), ("test", 5)):
        for label in ("cat", "dog"):
            write_images(tmp_path / split / label, np.zeros((count, 8, 6, 3), dtype=np.uint8))
    return f"folder:{tmp_path}"


@pytest.mark.parametrize("augment", [Augment(), Augment(2), Augment(0, True), Augment(2, True)])
@pytest.mark.parametrize("name", ["digits", "pets"])
def test_bytes_are_those_that_batches_hold(
    name: str, augment: Augment, request: pytest.FixtureRequest
) -> None:
    name = request.getfixturevalue("pets") if name == "pets" else name
    told = measure_dataset(name, validation_fraction=0.2, augment=augment)
    data = load_dataset(name, validation_fraction=0.2)
    assert told.train_examples == len(data.train)
    assert told.held_out == data.validation.images.nbytes + data.test.images.nbytes
    held = Batches(data.train, data.mean, data.std, augment=augment)._pixels
    assert isinstance(held, Held) and told.train == held._stretches.untyped_storage().nbytes()
    assert told.streams == (name != "digits")


def test_arguments_count(pets: str) -> None:
    args = {"size": 4, "channels": 1, "limit": 10, "limit_test": 6}
    told = measure_dataset(pets, validation_fraction=0, args=args)
    assert told == Footprint(train=160, held_out=96, train_examples=10, streams=True)
    told = measure_dataset(
        "digits", validation_fraction=0.5, args={"limit": 100, "limit_test": 5000, "size": 16}
    )
    assert told == Footprint(train=50 * 256, held_out=(50 + 599) * 256, train_examples=50, streams=False)


def test_the_numbers_of_the_named_datasets(tmp_path: Path) -> None:
    papers = {"mnist": (60000, 10000), "fashion-mnist": (60000, 10000), "cifar10": (50000, 10000)}
    papers |= {"cifar100": (50000, 10000), "svhn": (73257, 26032)}
    for name, (train, test) in papers.items():
        told = measure_dataset(name, root=tmp_path, validation_fraction=0)
        pixels = 28 * 28 if "mnist" in name else 3 * 32 * 32
        assert told == Footprint(train * pixels, test * pixels, train, streams=False)
        assert f"{train + test:,}" in dataset_sources()[name].title


def test_a_named_dataset_in_parquet_files_streams(tmp_path: Path, write_parquet: Callable) -> None:
    for split, count in (("train", 30), ("test", 10)):
        images = np.zeros((count, 28, 28), dtype=np.uint8)
        write_parquet(tmp_path / "mnist" / f"{split}-0.parquet", images, [row % 10 for row in range(count)])
    told = measure_dataset("mnist", root=tmp_path, validation_fraction=0)
    assert told == Footprint(30 * 784, 10 * 784, 30, streams=True)
    assert load_dataset("mnist", root=tmp_path, validation_fraction=0, memory_budget=1).way == "streamed"


def test_a_shipped_validation_split_counts_where_it_is_used() -> None:
    extent = Extent(100, 10, 20, streams=True)
    assert footprint(InputSpec.image((1, 2, 2)), extent, 0.5, Augment()) == Footprint(400, 120, 100, True)
    assert footprint(InputSpec.image((1, 2, 2)), extent, 0, Augment()) == Footprint(400, 80, 100, True)


def test_fields_beside_the_image_count_once_whatever_the_augmentation() -> None:
    extent = Extent(100, 0, 20, streams=True)
    beside = {"sensor": Field((5,)), "token": Field((3,), "int64", 0, 9)}
    image = InputSpec.image((1, 2, 2))
    for augment in (Augment(), Augment(1, True)):
        alone = footprint(image, extent, 0, augment)
        both = footprint(InputSpec({**image.fields, **beside}), extent, 0, augment)
        assert both.train - alone.train == 100 * (5 * 4 + 3 * 8)
        assert both.held_out - alone.held_out == 20 * (5 * 4 + 3 * 8)
    assert footprint(InputSpec(beside), extent, 0, Augment(1, True)).train == 100 * 44


def test_which_splits_stay_on_disk() -> None:
    told = Footprint(train=1000, held_out=200, train_examples=10, streams=True)
    expected = {None: (), 1200: (), 1199: ("train",), 200: ("train",), 199: SPLITS, 1: SPLITS}
    assert {budget: told.streamed(budget) for budget in expected} == expected
    assert Footprint(1000, 200, 10, streams=False).streamed(1) == ()


@pytest.mark.parametrize(
    ("budget", "streams", "line"),
    [
        (11_600_000_000, True, "x: 2.1 GB of pixels, in memory (budget 12 GB)."),
        (
            500_000_000,
            True,
            "x: 2.1 GB of pixels is over the budget of 500 MB: train is streamed from disk, the rest "
            "(100 MB) is in memory.",
        ),
        (1_000_000, True, "x: 2.1 GB of pixels is over the budget of 1.0 MB: streamed from disk."),
        (
            500_000_000,
            False,
            "x: 2.1 GB of pixels is over the budget of 500 MB, but goes in memory: only images in folders or "
            "parquet files can be streamed.",
        ),
    ],
)
def test_one_line_says_which_way(budget: int, streams: bool, line: str) -> None:
    assert Footprint(2 * 10**9, 10**8, 1, streams).text("x", budget) == line


def test_a_run_is_told_before_anything_is_read(pets: str, tmp_path: Path) -> None:
    heard = Listening()
    load_dataset(pets, memory_budget=2000, validation_fraction=0, progress=heard)
    assert heard.notes == [
        f"{pets}: 7.2 kB of pixels is over the budget of 2.0 kB: train is streamed from disk, "
        "the rest (1.4 kB) is in memory.",
        f"reading {pets} once for its checksum, mean and std: 7.2 kB of pixels",
    ]
    heard = Listening()
    assert load_dataset("digits", memory_budget=1, progress=heard).way == "memory"
    assert (
        len(heard.notes) == 1 and "only images in folders or parquet files can be streamed" in heard.notes[0]
    )


def test_measuring_imports_no_torch(pets: str) -> None:
    code = (
        "import sys; from kdbench.data import measure_dataset;"
        f"print(measure_dataset({pets!r}, args={{'size': 4}}).streams, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]
