"""Streamed datasets: the same splits, statistics and batches as in memory, to the bit."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from kdbench.data import Augment, Batches, Dataset, Split, Streamed, load_dataset
from kdbench.data.batches import Held
from kdbench.data.draws import centred, drawn
from kdbench.data.streaming import PIECE, Stream

CPU = torch.device("cpu")


def random_images(count: int, seed: int, shape: tuple[int, ...] = (7, 6, 3)) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8))


@pytest.fixture
def pets(tmp_path: Path, write_images: Callable) -> str:
    """Return the name of a dataset of 90 training and 10 test images, as files."""
    for seed, (split, count) in enumerate((("train", 45), ("test", 5))):
        for label in ("cat", "dog"):
            write_images(tmp_path / "pets" / split / label, random_images(count, 10 * seed + ord(label[0])))
    return f"folder:{tmp_path}/pets"


@pytest.fixture
def rows(tmp_path: Path, write_parquet: Callable) -> str:
    """Return the name of a dataset of 90 training and 10 test images, in three parquet files."""
    for stem, count in (("train-0", 50), ("train-1", 40), ("test-0", 10)):
        images = random_images(count, len(stem) + count)
        write_parquet(tmp_path / "rows" / f"{stem}.parquet", images, [row % 3 for row in range(count)])
    return f"parquet:{tmp_path}/rows"


@pytest.fixture(params=["pets", "rows"])
def name(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue(request.param)


def both(name: str, **arguments: Any) -> tuple[Dataset, Dataset]:
    held, streamed = (load_dataset(name, memory_budget=budget, **arguments) for budget in (None, 1))
    assert (held.way, streamed.way) == ("memory", "streamed")
    return held, streamed


@pytest.mark.parametrize("fraction", [0, 0.2])
@pytest.mark.parametrize("args", [{}, {"size": 5, "channels": 1, "limit": 40}])
def test_splits_and_statistics_are_the_same(name: str, fraction: float, args: dict[str, int]) -> None:
    held, streamed = both(name, validation_fraction=fraction, args=args)
    for key in ("checksum", "mean", "std", "classes", "inputs", "num_classes"):
        assert getattr(held, key) == getattr(streamed, key), key
    for part in ("train", "validation", "test"):
        mine, theirs = getattr(streamed, part), getattr(held, part)
        assert isinstance(mine, Streamed) and isinstance(theirs, Split)
        assert torch.equal(mine.labels, theirs.labels)
        assert mine.images.shape == tuple(theirs.images.shape)
        assert (mine.images.read() == theirs.images.numpy()).all()


def test_a_shipped_validation_split_is_streamed(pets: str, tmp_path: Path, write_images: Callable) -> None:
    for label in ("cat", "dog"):
        write_images(tmp_path / "pets" / "val" / label, random_images(3, 99))
    held, streamed = both(pets)
    assert held.checksum == streamed.checksum
    assert (streamed.validation.images.read() == held.validation.images.numpy()).all()
    assert both(pets, validation_fraction=0)[1].checksum == held.checksum


def test_validation_and_test_are_in_memory_where_they_fit(name: str) -> None:
    one = 7 * 6 * 3
    data = load_dataset(name, validation_fraction=0.2, memory_budget=28 * one)
    assert data.way == "streamed" and isinstance(data.validation, Split) and isinstance(data.test, Split)
    assert (len(data.validation), len(data.test)) == (18, 10)
    assert data.checksum == load_dataset(name).checksum
    less = load_dataset(name, validation_fraction=0.2, memory_budget=28 * one - 1)
    assert isinstance(less.validation, Streamed) and isinstance(less.test, Streamed)
    assert load_dataset(name, validation_fraction=0.2, memory_budget=100 * one).way == "memory"
    mirrored = load_dataset(name, memory_budget=100 * one, augment=Augment(flip=True))
    assert mirrored.way == "streamed"


@pytest.mark.parametrize("augment", [Augment(), Augment(2), Augment(0, True), Augment(2, True)])
def test_batches_are_the_same_bits(name: str, augment: Augment) -> None:
    held, streamed = both(name, validation_fraction=0)
    pair = [Batches(data.train, data.mean, data.std, augment=augment) for data in (held, streamed)]
    assert len(pair[0]) == len(pair[1]) == 90
    for size in (40, 89):  # a smaller last batch, and one of a single image, which is left out
        assert pair[0].steps(size) == pair[1].steps(size)
        passes = [batches.epoch(size, torch.Generator().manual_seed(3)) for batches in pair]
        count = 0
        for mine, theirs in zip(*passes, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
            assert theirs[0].is_contiguous(memory_format=torch.channels_last)
            count += len(mine[1])
        assert count == {40: 90, 89: 89}[size]
    for mine, theirs in zip(*(batches.ordered(64) for batches in pair), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


def test_other_fields_follow_the_images_that_are_streamed(name: str) -> None:
    held, streamed = both(name, validation_fraction=0)
    fields = {"row": torch.arange(90)}
    pair = [
        Batches(replace(data.train, fields=fields), data.mean, data.std, augment=Augment(1, True))
        for data in (held, streamed)
    ]
    for mine, theirs in zip(
        *(each.epoch(40, torch.Generator().manual_seed(3)) for each in pair), strict=True
    ):
        assert torch.equal(theirs[0]["row"], theirs[2])
        assert torch.equal(mine[0]["image"], theirs[0]["image"])


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_pixels_depend_neither_on_workers_nor_on_pieces(name: str, workers: int) -> None:
    held, streamed = both(name, validation_fraction=0)
    augment = Augment(1, True)
    expected = Held(held.train.images, augment, CPU)
    found = Stream(streamed.train.images, augment, CPU, workers=workers)
    draws = drawn(90, augment, torch.Generator().manual_seed(5))
    for size in (PIECE - 1, PIECE, 2 * PIECE + 1):
        mine, theirs = (list(source.batches(draws, size)) for source in (found, expected))
        assert [len(batch) for batch in mine] == [len(batch) for batch in theirs]
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


def test_a_pass_leaves_the_random_numbers_of_training_alone(pets: str) -> None:
    _, streamed = both(pets)
    batches = Batches(streamed.train, streamed.mean, streamed.std)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    list(batches.ordered(32))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_empty_validation_split_gives_no_batches(name: str) -> None:
    _, streamed = both(name, validation_fraction=0)
    batches = Batches(streamed.validation, streamed.mean, streamed.std)
    assert len(batches) == 0 and list(batches.ordered(8)) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_breaks_later_is_named_in_one_line(
    pets: str, workers: int, message_of: Callable
) -> None:
    data = load_dataset(pets, memory_budget=1)
    broken = data.train.images.shelf[7].content
    assert isinstance(broken, Path)
    for content, reason in ((b"nothing", "not an image"), (None, "No such file")):
        broken.write_bytes(content) if content else broken.unlink()
        stream = Stream(data.train.images, Augment(), CPU, workers=workers)
        message = message_of(lambda: list(stream.batches(centred(81, Augment()), 16)))  # noqa: B023
        assert message.startswith(f"cannot read the image {broken} (") and reason in message


def test_a_broken_image_is_found_before_training(
    rows: str, tmp_path: Path, write_parquet: Callable, message_of: Callable
) -> None:
    images: list[np.ndarray | bytes] = [*random_images(5, 0), b"broken"]
    write_parquet(tmp_path / "rows" / "train-2.parquet", images, [0, 1, 2, 0, 1, 2])
    message = message_of(lambda: load_dataset(rows, memory_budget=1))
    assert "train-2.parquet row 5 (not an image)" in message


def test_the_copy_of_a_parquet_file_is_deleted_with_its_dataset(
    rows: str, tmp_path: Path, message_of: Callable
) -> None:
    scratch = tmp_path / "scratch"
    data = load_dataset(rows, memory_budget=1, scratch=scratch)
    packs = list(scratch.iterdir())
    assert len(packs) == 2, "one for train with validation, one for test"
    list(Batches(data.train, data.mean, data.std).ordered(40))
    assert list(scratch.iterdir()) == packs, "workers delete nothing"
    del data
    assert list(scratch.iterdir()) == []
    (scratch / "file").touch()
    message = message_of(lambda: load_dataset(rows, memory_budget=1, scratch=scratch / "file" / "below"))
    assert message.startswith(f"cannot copy the encoded images to {scratch}/file/below (Not a directory)")


def test_images_of_other_sizes_and_colours_are_refused_as_in_memory(
    pets: str, tmp_path: Path, message_of: Callable
) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "pets" / "train" / "dog" / "zz.png")
    messages = {message_of(lambda: load_dataset(pets, memory_budget=budget)) for budget in (None, 1)}  # noqa: B023
    assert len(messages) == 1 and "give the dataset argument size" in messages.pop()


@pytest.mark.skipif("KDBENCH_DATA" not in os.environ, reason="needs CIFAR-100 under KDBENCH_DATA")
def test_cifar100_from_parquet_gives_the_same_batches() -> None:
    args = {"limit": 2000, "limit_test": 500}
    held, streamed = both("cifar100", args=args)
    assert held.checksum == streamed.checksum and held.mean == streamed.mean
    pair = [Batches(data.train, data.mean, data.std, augment=Augment(4, True)) for data in (held, streamed)]
    passes = (batches.epoch(64, torch.Generator().manual_seed(0)) for batches in pair)
    for mine, theirs in zip(*passes, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gets_the_same_batches(name: str) -> None:
    held, streamed = both(name, validation_fraction=0)
    pair = [
        Batches(data.train, data.mean, data.std, augment=Augment(2, True), device="cuda")
        for data in (held, streamed)
    ]
    for mine, theirs in zip(
        *(batches.epoch(40, torch.Generator().manual_seed(3)) for batches in pair), strict=True
    ):
        assert mine[0].is_cuda and all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
