from __future__ import annotations

import pytest
import torch
from torchvision.transforms import functional as tv

from kdbench.data import Augment, Batches, Split

# With these a pixel passes unchanged: 255 · (value / 255).
IDENTITY = {1: ((0.0,), (1 / 255,)), 3: ((0.0,) * 3, (1 / 255,) * 3)}


def split_of(count: int, height: int = 6, width: int = 5, channels: int = 3) -> Split:
    generator = torch.Generator().manual_seed(7)
    shape = (count, height, width, channels)
    images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    return Split(images, torch.randint(0, 4, (count,), generator=generator))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("augment", [Augment(), Augment(2), Augment(0, True), Augment(2, True)])
def test_crops_and_flips_are_those_of_torchvision(augment: Augment, channels: int) -> None:
    split, pad = split_of(40, channels=channels), augment.crop_padding
    batches = Batches(split, *IDENTITY[channels], augment=augment)
    # The documented order of draws: permutation, tops, lefts, flips.
    draws = seeded(11)
    order = torch.randperm(40, generator=draws)
    zeros = torch.zeros(40, dtype=torch.int64)
    top, left = (torch.randint(2 * pad + 1, (40,), generator=draws) if pad else zeros for _ in range(2))
    flips = torch.randint(2, (40,), generator=draws) if augment.flip else zeros
    place = 0
    for x, y, index in batches.epoch(16, seeded(11)):
        for image, label, row in zip(x, y, index, strict=True):
            assert row == order[place]
            assert label == split.labels[row]
            original = tv.pad(split.images[row].permute(2, 0, 1), [pad] * 4)
            expected = tv.crop(original, int(top[place]), int(left[place]), 6, 5)
            expected = tv.hflip(expected) if flips[place] else expected
            assert torch.equal(image, expected.float())
            place += 1
    assert place == 40


def test_flips_and_every_crop_happen() -> None:
    image = torch.arange(1, 10, dtype=torch.uint8).view(1, 3, 3, 1)
    split = Split(image.repeat(2000, 1, 1, 1), torch.zeros(2000, dtype=torch.int64))
    batches = Batches(split, *IDENTITY[1], augment=Augment(1, True))
    seen = {tuple(x.flatten().tolist()) for batch, _, _ in batches.epoch(100, seeded()) for x in batch}
    assert len(seen) == 9 * 2


def test_normalisation_and_memory_format() -> None:
    split = split_of(12)
    mean, std = (0.1, 0.5, 0.7), (0.2, 0.3, 0.9)
    batches = Batches(split, mean, std, augment=Augment(1))
    ((x, y, index),) = batches.ordered(12)
    expected = tv.normalize(split.images.permute(0, 3, 1, 2) / 255, mean, std)
    torch.testing.assert_close(x, expected, rtol=1e-6, atol=1e-6)
    assert x.dtype == torch.float32
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(y, split.labels)
    assert index.tolist() == list(range(12))
    for x, _, _ in batches.epoch(12, seeded()):
        assert x.is_contiguous(memory_format=torch.channels_last)


def test_the_padding_is_black_before_normalisation() -> None:
    split = Split(torch.full((50, 2, 2, 1), 255, dtype=torch.uint8), torch.zeros(50, dtype=torch.int64))
    batches = Batches(split, (0.5,), (0.25,), augment=Augment(1))
    values = torch.cat([x.flatten() for x, _, _ in batches.epoch(25, seeded())]).unique()
    torch.testing.assert_close(values, torch.tensor([-2.0, 2.0]))


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [
        (10, 5, [5, 5]),
        (12, 5, [5, 5, 2]),
        (11, 5, [5, 5]),
        (3, 5, [3]),
        (1, 5, []),
        (2, 1, [1, 1]),
        (0, 5, []),
    ],
)
def test_a_last_batch_of_one_is_left_out_of_training_only(
    count: int, batch_size: int, sizes: list[int]
) -> None:
    batches = Batches(split_of(count), *IDENTITY[3], augment=Augment(1, True))
    assert [len(y) for _, y, _ in batches.epoch(batch_size, seeded())] == sizes
    assert batches.steps(batch_size) == len(sizes)
    assert len(batches) == count
    assert sum(len(y) for _, y, _ in batches.ordered(batch_size)) == count


def test_an_epoch_shows_each_example_once_in_an_order_of_its_own() -> None:
    batches, generator = Batches(split_of(64), *IDENTITY[3]), seeded()
    first, second = (torch.cat([i for _, _, i in batches.epoch(20, generator)]) for _ in range(2))
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(64))
    assert first.tolist() != second.tolist()
    again = torch.cat([i for _, _, i in batches.epoch(20, seeded())])
    assert torch.equal(first, again)


def test_an_epoch_is_drawn_when_it_is_asked_for() -> None:
    batches, generator = Batches(split_of(8), *IDENTITY[3]), seeded()
    first = batches.epoch(8, generator)
    second = batches.epoch(8, generator)
    ((_, _, index_of_second),) = second
    ((_, _, index_of_first),) = first
    assert torch.equal(index_of_first, torch.randperm(8, generator=seeded()))
    assert not torch.equal(index_of_first, index_of_second)


def test_a_batch_may_be_changed_without_touching_the_data() -> None:
    batches = Batches(split_of(8), *IDENTITY[3], augment=Augment(1))
    (before,) = (x.clone() for x, _, _ in batches.ordered(8))
    for x, _, _ in batches.ordered(8):
        x.zero_()
    (after,) = (x for x, _, _ in batches.ordered(8))
    assert torch.equal(before, after)


def test_a_padding_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="crop_padding is -1"):
        Augment(-1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gets_the_same_batches() -> None:
    split = split_of(40)
    mean, std = (0.1, 0.5, 0.7), (0.2, 0.3, 0.9)
    pair = [Batches(split, mean, std, device=device, augment=Augment(2, True)) for device in ("cpu", "cuda")]
    epochs = (batches.epoch(16, seeded()) for batches in pair)
    for on_cpu, on_gpu in zip(*epochs, strict=True):
        for expected, found in zip(on_cpu, on_gpu, strict=True):
            torch.testing.assert_close(found.cpu(), expected)
