from __future__ import annotations

import os
import pickle
import struct
import sys
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import datasets

from kdbench.data import dataset_checksum, describe_dataset, describe_heads, load_dataset
from kdbench.data.sources.archives import SUPERCLASSES
from kdbench.errors import UserError
from kdbench.suite.schema import DatasetEntry

NEEDS_ROOT = "set KDBENCH_DATA to a folder with MNIST, FashionMNIST and cifar100"
real_data = pytest.mark.skipif(not os.environ.get("KDBENCH_DATA"), reason=NEEDS_ROOT)


def write_idx(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.tobytes())


@pytest.fixture
def tiny_mnist(tmp_path: Path) -> tuple[Path, dict[str, np.ndarray]]:
    arrays = {}
    for stem, count in (("train", 40), ("t10k", 20)):
        images = np.random.default_rng(count).integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[stem] = images
        write_idx(tmp_path / "MNIST" / "raw" / f"{stem}-images-idx3-ubyte", images)
        labels = np.arange(count, dtype=np.uint8) % 10
        write_idx(tmp_path / "MNIST" / "raw" / f"{stem}-labels-idx1-ubyte", labels)
    return tmp_path, arrays


def test_mnist_files(tiny_mnist: tuple[Path, dict[str, np.ndarray]]) -> None:
    root, arrays = tiny_mnist
    data = load_dataset("mnist", root=root, validation_fraction=0)
    assert (data.train.images[..., 0].numpy() == arrays["train"]).all()
    assert (data.test.images[..., 0].numpy() == arrays["t10k"]).all()
    assert data.test.labels.tolist() == [*range(10)] * 2
    assert data.classes == tuple("0123456789")
    assert describe_dataset("mnist")[:2] == (data.inputs, data.num_classes)


class FakeCifar:
    """What torchvision's CIFAR10 holds after it has read its files."""

    def __init__(self, root: str, train: bool, download: bool) -> None:
        self.data = np.random.default_rng(train).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
        self.targets = [*range(10)] * 2
        self.classes = list("abcdefghij")


class FakeSvhn:
    """What torchvision's SVHN holds: channels first, labels in an array."""

    def __init__(self, root: str, split: str, download: bool) -> None:
        pixels = np.random.default_rng(split == "train").integers(0, 256, (20, 3, 32, 32))
        self.data = pixels.astype(np.uint8)
        self.labels = np.arange(20) % 10


@pytest.mark.parametrize(("name", "kind"), [("cifar10", FakeCifar), ("svhn", FakeSvhn)])
def test_colour_archives(name: str, kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, name.upper(), kind)
    data = load_dataset(name, root=tmp_path, validation_fraction=0)
    held = (
        FakeCifar("", True, False).data
        if kind is FakeCifar
        else FakeSvhn("", "train", False).data.transpose(0, 2, 3, 1)
    )
    assert (data.train.images.numpy() == held).all()
    assert data.train.labels.tolist() == [*range(10)] * 2
    assert data.classes == tuple("abcdefghij" if kind is FakeCifar else "0123456789")
    assert describe_dataset(name)[:2] == (data.inputs, data.num_classes)


NAMES = ["mnist", "fashion-mnist", "cifar10", "cifar100", "svhn"]


@pytest.mark.parametrize("name", NAMES)
def test_no_network(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, message_of: Callable) -> None:
    def unreachable(*args: Any, **kwargs: Any) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    message = message_of(lambda: load_dataset(name, root=tmp_path / "new"))
    assert f"dataset {name} is not complete under {tmp_path}/new and cannot be downloaded (" in message
    assert "no route to host" in message
    assert "point --data-root or KDBENCH_DATA at a folder that holds it" in message


def test_a_root_that_is_not_writable_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, message_of: Callable
) -> None:
    # The administrator may write everywhere, so the answer of the system is replaced.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr("urllib.request.urlopen", lambda *args, **kwargs: pytest.fail("downloaded"))
    message = message_of(lambda: load_dataset("cifar10", root=tmp_path / "new"))
    assert f"cannot be downloaded ({tmp_path}/new is not writable)" in message
    assert not (tmp_path / "new").exists()


def test_without_torchvision_it_is_one_line(
    tiny_mnist: tuple[Path, dict[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(UserError, match="MNIST is read by torchvision, which is not at hand"):
        dataset_checksum(DatasetEntry(name="mnist"), root=tiny_mnist[0])


def test_a_torn_file(tiny_mnist: tuple[Path, dict[str, np.ndarray]], message_of: Callable) -> None:
    root, _ = tiny_mnist
    torn = root / "MNIST" / "raw" / "train-images-idx3-ubyte"
    torn.write_bytes(torn.read_bytes()[:1000])
    assert f"dataset mnist is not complete under {root}" in message_of(
        lambda: load_dataset("mnist", root=root)
    )


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (
            np.array([200] + [*range(10)] * 4, np.uint8)[:40],
            "example 0 of the train split of mnist has the label 200",
        ),
        (np.arange(30, dtype=np.uint8) % 10, "the train split of mnist has 40 images and 30 labels"),
    ],
)
def test_labels_that_are_not_those_of_the_images(
    labels: np.ndarray, expected: str, tiny_mnist: tuple[Path, dict[str, np.ndarray]], message_of: Callable
) -> None:
    write_idx(tiny_mnist[0] / "MNIST" / "raw" / "train-labels-idx1-ubyte", labels)
    assert expected in message_of(lambda: load_dataset("mnist", root=tiny_mnist[0]))


def test_files_that_are_no_batches_of_cifar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, message_of: Callable
) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for file in ("data_batch_1", "test_batch"):
        (folder / file).write_bytes(pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": [0]}))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "dataset cifar10 is not complete" in message_of(lambda: load_dataset("cifar10", root=tmp_path))


@real_data
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_real_mnist(name: str) -> None:
    data = load_dataset(name, validation_fraction=1 / 6)
    assert (len(data.train), len(data.validation), len(data.test)) == (50000, 10000, 10000)
    published = {"mnist": (0.1307, 0.3081), "fashion-mnist": (0.2860, 0.3530)}[name]
    assert (data.mean[0], data.std[0]) == pytest.approx(published, abs=5e-4)
    counts = torch.bincount(data.test.labels).tolist()
    # The digits' own counts, as LeCun's page and every tutorial has them.
    digits = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert counts == (digits if name == "mnist" else [1000] * 10)


@real_data
def test_real_cifar100_labels() -> None:
    args = {"limit": 2000, "limit_test": 1000}
    fine = load_dataset("cifar100", validation_fraction=0.5, args=args)
    assert torch.bincount(fine.train.labels).tolist() == [10] * 100
    assert torch.bincount(fine.test.labels).tolist() == [10] * 100
    assert fine.classes[:2] + fine.classes[-1:] == ("apple", "aquarium_fish", "worm")
    # The means and deviations of the usual recipe, from a twenty-fifth of the images.
    assert fine.mean == pytest.approx((0.5071, 0.4867, 0.4408), abs=0.02)
    assert fine.std == pytest.approx((0.2675, 0.2565, 0.2761), abs=0.02)
    coarse = load_dataset("parquet:cifar100", args={**args, "label": "coarse_label"})
    assert coarse.num_classes == 20


@real_data
def test_real_cifar100_counts() -> None:
    from kdbench.data.sources import parquet

    found = parquet.layout(Path(os.environ["KDBENCH_DATA"]) / "cifar100")
    assert np.bincount(found.labels("train", "fine_label")).tolist() == [500] * 100
    assert np.bincount(found.labels("test", "fine_label")).tolist() == [100] * 100


@real_data
def test_real_cifar100_superclasses() -> None:
    args = {"limit": 2000, "limit_test": 200}
    data = load_dataset("cifar100", heads=("coarse_label",), args=args)
    assert data.heads["coarse_label"] == SUPERCLASSES
    pairs = set(zip(data.train.labels.tolist(), data.train.further["coarse_label"].tolist(), strict=True))
    # Each of the 20 superclasses holds five of the 100 classes.
    assert len(pairs) == 100
    assert sorted(coarse for _, coarse in pairs) == sorted(list(range(20)) * 5)


def test_superclasses_of_torchvisions_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    labels = list(range(100))
    coarse = [label % 20 for label in labels]
    for file in ("train", "test"):
        entry = {"data": np.zeros((100, 3072), np.uint8), "fine_labels": labels, "coarse_labels": coarse}
        (folder / file).write_bytes(pickle.dumps(entry))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [str(label) for label in labels]}))
    monkeypatch.setattr("torchvision.datasets.CIFAR100._check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda path, md5: True)
    heads = ("coarse_label",)
    data = load_dataset("cifar100", root=tmp_path, validation_fraction=0, heads=heads)
    assert data.test.further["coarse_label"].tolist() == coarse
    assert describe_heads("cifar100", heads, root=tmp_path) == {"coarse_label": SUPERCLASSES}
    with pytest.raises(UserError, match=r"unknown column of labels 'coarse'. Did you mean 'coarse_label'"):
        describe_heads("cifar100", ("coarse",), root=tmp_path)
    with pytest.raises(UserError, match="unknown column of labels 'coarse'"):
        load_dataset("cifar100", root=tmp_path, heads=("coarse",))
