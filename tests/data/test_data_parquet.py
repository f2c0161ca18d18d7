from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kdbench.data import Description, describe_dataset, load_dataset
from kdbench.data.splits import balanced


def random_images(count: int, seed: int = 0, shape: tuple[int, ...] = (6, 5, 3)) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8))


@pytest.fixture
def tiny(tmp_path: Path, write_parquet: Callable) -> Path:
    names = ["cat", "dog", "eel"]
    shards = {"train-00001-of-00002": (12, 1), "train-00000-of-00002": (9, 2), "test-00000-of-00001": (6, 3)}
    for stem, (count, seed) in shards.items():
        labels = [row % 3 for row in range(count)]
        write_parquet(tmp_path / f"{stem}.parquet", random_images(count, seed), labels, names=names)
    return tmp_path


def test_shards_round_trip_in_order(tiny: Path) -> None:
    data = load_dataset(f"parquet:{tiny}", validation_fraction=0)
    assert describe_dataset(f"parquet:{tiny}") == Description.of_images((3, 6, 5), 3)
    assert data.inputs.image_shape == (3, 6, 5)
    assert data.classes == ("cat", "dog", "eel")
    assert (data.train.images.numpy() == np.stack(random_images(9, 2) + random_images(12, 1))).all()
    assert data.train.labels.tolist() == [row % 3 for row in [*range(9), *range(12)]]
    assert (data.test.images.numpy() == np.stack(random_images(6, 3))).all()


def test_the_folder_is_found_under_the_data_root(tiny: Path) -> None:
    assert len(load_dataset(f"parquet:{tiny.name}", root=tiny.parent, validation_fraction=0).test) == 6


def test_a_shipped_validation_split(tiny: Path, write_parquet: Callable) -> None:
    write_parquet(tiny / "validation-00000-of-00001.parquet", random_images(3, 9), [2, 1, 0])
    data = load_dataset(f"parquet:{tiny}")
    assert (len(data.train), data.validation.labels.tolist()) == (21, [2, 1, 0])
    assert data.checksum == load_dataset(f"parquet:{tiny}", validation_fraction=0).checksum


def test_another_label_column_and_no_class_names(tmp_path: Path, write_parquet: Callable) -> None:
    for split in ("train", "test"):
        path = tmp_path / f"{split}.parquet"
        coarse = {"coarse": [row % 2 for row in range(8)]}
        write_parquet(path, random_images(8), [row % 4 for row in range(8)], image="image", extra=coarse)
    name = f"parquet:{tmp_path}"
    assert load_dataset(name, validation_fraction=0).classes == ("0", "1", "2", "3")
    data = load_dataset(name, validation_fraction=0, args={"label": "coarse", "image": "image"})
    assert data.classes == ("0", "1")
    assert data.train.labels.tolist() == [0, 1] * 4
    assert describe_dataset(name, args={"label": "coarse"}).num_classes == 2


def test_a_limit_decodes_only_what_it_keeps(tmp_path: Path, write_parquet: Callable) -> None:
    labels = [row % 2 for row in range(40)]
    images: list[np.ndarray | bytes] = list(random_images(40))
    kept = balanced(np.array(labels), 6)
    for row in set(range(40)) - set(kept.tolist()):
        images[row] = b"broken"
    write_parquet(tmp_path / "train-0.parquet", images[:25], labels[:25])
    write_parquet(tmp_path / "train-1.parquet", images[25:], labels[25:])
    write_parquet(tmp_path / "test-0.parquet", random_images(4), [0, 1, 0, 1])
    data = load_dataset(f"parquet:{tmp_path}", validation_fraction=0, args={"limit": 6})
    assert (data.train.images.numpy() == np.stack([images[row] for row in kept])).all()
    assert data.train.labels.tolist() == [labels[row] for row in kept]


def test_more_rows_than_are_read_at_once(tmp_path: Path, write_parquet: Callable) -> None:
    images = [np.full((2, 2), row % 251, dtype=np.uint8) for row in range(5000)]
    labels = [row % 2 for row in range(5000)]
    write_parquet(tmp_path / "train.parquet", images, labels)
    write_parquet(tmp_path / "test.parquet", images[:4], labels[:4])
    data = load_dataset(f"parquet:{tmp_path}", validation_fraction=0)
    assert data.train.images[:, 0, 0, 0].tolist() == [row % 251 for row in range(5000)]


def test_a_named_dataset_is_looked_for_in_this_layout(
    tmp_path: Path, write_parquet: Callable, message_of: Callable
) -> None:
    images = random_images(20, shape=(28, 28))
    for split in ("train", "test"):
        path = tmp_path / "fashion_mnist" / f"{split}-00000-of-00001.parquet"
        write_parquet(path, images, [row % 10 for row in range(20)], image="image")
    data = load_dataset("fashion-mnist", root=tmp_path, validation_fraction=0)
    assert (data.train.images[..., 0].numpy() == np.stack(images)).all()
    (tmp_path / "fashion_mnist").rename(tmp_path / "cifar10")
    message = message_of(lambda: load_dataset("cifar10", root=tmp_path))
    assert "the files of cifar10 hold 10 classes of images of 1 × 28 × 28, not 10 of 3 × 32 × 32" in message


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"labels": [0, 1, 7, 1]},
            "example 2 of the train split of {name} has the label 7: labels are 0 to 1",
        ),
        ({"labels": [0, 1, None, 1]}, "{file}: 1 rows have no label: remove them."),
        ({"labels": [0.0, 1.0, 0.0, 1.0]}, "{file}: column label is double; labels are whole numbers"),
        ({"labels": ["a", "b", "a", "b"]}, "{file}: column label is string"),
        ({"label": "target"}, "{file} has no column label or fine_label (it has img, target): name it with"),
        ({"image": "picture"}, "{file} has no column img or image (it has picture, label)"),
        ({"images": [b"x"] * 4}, "cannot read the image {file} row 0 (not an image)"),
        ({"images": [None] * 4}, "{file} row 0 holds no image bytes"),
        ({"images": [], "labels": [], "label_type": pa.int64()}, "{file}: the train split has no rows"),
        ({"names": ["only"], "labels": [0] * 4}, "dataset {name} has 1 class:"),
        (
            {"labels": [0, 1, 2**62, 1], "names": None},
            "{folder}, column label, holds 8 examples and the label 4611686018427387904: labels are whole",
        ),
        (
            {"labels": [0, 1, 2**64 - 1, 1], "names": None, "label_type": pa.uint64()},
            "labels of {file}, column label, hold 18446744073709551615: labels are whole numbers 0",
        ),
        ({"labels": [0, 1, -(2**63), 1]}, "has the label -9223372036854775808: labels are 0 to 1"),
        (
            {"names": ["a", "b\x1b[2J"]},
            "the name of class 1 of {name} cannot be shown: a text has no control",
        ),
        ({"names": ["a", "b\nc"]}, "the name of class 1 of {name} cannot be shown: it is one line"),
    ],
)
def test_bad_files(
    change: dict[str, object], text: str, tmp_path: Path, write_parquet: Callable, message_of: Callable
) -> None:
    good = {"images": random_images(4), "labels": [0, 1, 0, 1], "names": ["a", "b"]}
    file = write_parquet(tmp_path / "train-0.parquet", **{**good, **change})
    write_parquet(tmp_path / "test-0.parquet", **good)
    name = f"parquet:{tmp_path}"
    assert text.format(file=file, name=name, folder=tmp_path) in message_of(lambda: load_dataset(name))


@pytest.mark.parametrize(
    "metadata", ["{", "[" * 20_000, '{"info": {"features": {"label": {"names": 5}}}}'], ids=len
)
def test_metadata_that_name_no_classes_are_one_line(metadata: str, tiny: Path, message_of: Callable) -> None:
    file = tiny / "train-00000-of-00002.parquet"
    table = pq.read_table(file)
    pq.write_table(table.replace_schema_metadata({"huggingface": metadata}), file)
    assert message_of(lambda: describe_dataset(f"parquet:{tiny}")).startswith(f"{file}: its metadata")


def test_a_further_file_of_other_columns_is_named(tiny: Path, message_of: Callable) -> None:
    file = tiny / "train-00001-of-00002.parquet"
    table = pq.read_table(file)
    pq.write_table(table.drop_columns("label"), file)
    assert f"{file} has 0 columns 'label'" in message_of(lambda: load_dataset(f"parquet:{tiny}"))
    pq.write_table(table.set_column(0, "img", pa.array(["x"] * len(table))), file)
    assert f"{file}: column img is string" in message_of(lambda: load_dataset(f"parquet:{tiny}"))


def test_an_image_column_that_is_no_struct(tmp_path: Path, message_of: Callable) -> None:
    for split in ("train", "test"):
        pq.write_table(pa.table({"img": [b"x", b"y"], "label": [0, 1]}), tmp_path / f"{split}.parquet")
    assert "column img is binary; images are a struct" in message_of(
        lambda: load_dataset(f"parquet:{tmp_path}")
    )


def test_missing_and_damaged_files(tiny: Path, message_of: Callable) -> None:
    name = f"parquet:{tiny}"
    wrong = message_of(lambda: load_dataset(name, args={"label": "labl"}))
    assert "no column 'labl' (dataset argument label). Did you mean 'label'?" in wrong
    (tiny / "train-00001-of-00002.parquet").write_bytes(b"PAR1 torn")
    assert f"cannot read {tiny}/train-00001-of-00002.parquet (" in message_of(lambda: load_dataset(name))
    (tiny / "test-00000-of-00001.parquet").unlink()
    assert f"{tiny} has no test split (only train)" in message_of(lambda: describe_dataset(name))
    assert "has no train split (no split)" in message_of(lambda: load_dataset(f"parquet:{tiny.parent}"))
