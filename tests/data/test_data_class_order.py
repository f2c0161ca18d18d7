"""Another order of a dataset's classes than that of its source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdbench.data import check_classes, load_dataset
from kdbench.errors import UserError
from kdbench.plan import make_plan
from kdbench.plan.identity import dataset_config
from kdbench.suite import Suite
from kdbench.suite.schema import DatasetEntry

NAMES = tuple(str(number) for number in range(12))


@pytest.fixture(scope="module")
def twelve(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of twelve classes, "0" to "11"; the shade of an image tells its class."""
    folder = tmp_path_factory.mktemp("twelve")
    for split, count in (("train", 5), ("test", 2)):
        for name in NAMES:
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = np.full((2, 2), 20 * int(name) + index, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{index}.png")
    return folder


def test_labels_follow_the_order_and_splits_stay(twelve: Path) -> None:
    plain = load_dataset(f"folder:{twelve}", validation_fraction=0.2)
    ordered = load_dataset(f"folder:{twelve}", validation_fraction=0.2, classes=NAMES)
    assert plain.classes == tuple(sorted(NAMES)) and ordered.classes == NAMES
    for name in ("train", "validation", "test"):
        before, after = getattr(plain, name), getattr(ordered, name)
        assert before.images.equal(after.images)
        assert after.labels.tolist() == (after.images[:, 0, 0, 0] // 20).tolist()
    assert (ordered.mean, ordered.std) == (plain.mean, plain.std)
    assert ordered.checksum != plain.checksum


def test_a_long_tail_falls_on_the_same_images(twelve: Path) -> None:
    plain = load_dataset(f"folder:{twelve}", validation_fraction=0, imbalance_factor=4)
    ordered = load_dataset(f"folder:{twelve}", validation_fraction=0, imbalance_factor=4, classes=NAMES)
    assert plain.train.images.equal(ordered.train.images)


@pytest.mark.parametrize(
    ("classes", "problem"),
    [
        (NAMES[:11], "names 11 classes, folder:.* has 12"),
        ((*NAMES[:11], "3"), "'3' is named twice"),
        ((*NAMES[:11], "111"), "'111' is no class of folder:.*Did you mean '11'"),
    ],
)
def test_an_order_that_is_none_is_refused_before_anything_is_read(
    twelve: Path, classes: tuple[str, ...], problem: str
) -> None:
    with pytest.raises(UserError, match=problem):
        check_classes(DatasetEntry(name=f"folder:{twelve}", classes=classes), 12)
    with pytest.raises(UserError, match=problem):
        load_dataset(f"folder:{twelve}", classes=classes)


def test_of_data_that_only_loading_tells_of_the_number_is_checked(twelve: Path) -> None:
    check_classes(DatasetEntry(name="digits", classes=tuple("abcdefghij")), 10)
    with pytest.raises(UserError, match="names 2 classes, digits has 10"):
        check_classes(DatasetEntry(name="digits", classes=("0", "1")), 10)
    with pytest.raises(UserError, match="'a' is no class of digits"):
        load_dataset("digits", classes=tuple("abcdefghij"))


def test_two_classes_of_one_name_have_no_order(tmp_path: Path) -> None:
    (tmp_path / "data.py").write_text(
        "import numpy as np\n"
        "def twice():\n"
        "    part = np.zeros((4, 2, 2), dtype=np.uint8), np.array([0, 1, 0, 1])\n"
        "    return {'train': part, 'test': part, 'classes': ['a', 'a']}\n"
    )
    with pytest.raises(UserError, match="two classes called 'a'"):
        load_dataset(f"{tmp_path}/data.py:twice", validation_fraction=0, classes=("a", "b"))


def test_a_suite_gives_an_order_as_numbers_or_names(write_suite: Callable[..., Path], twelve: Path) -> None:
    text = (
        "dataset: {name: 'folder:%s', classes: [%s], args: {size: 8}}\n"
        "teachers: [mlp_8]\nstudents: [mlp_4]\nmethods: [scratch]\nmeasure: {latency: false}\n"
    )
    suite = Suite.load(write_suite(text % (twelve, ", ".join(NAMES))))
    assert suite.dataset.classes == NAMES
    make_plan(suite)
    with pytest.raises(UserError, match=r"dataset.classes: '12' is no class"):
        make_plan(Suite.load(write_suite(text % (twelve, ", ".join((*NAMES[:11], "12"))))))
    with pytest.raises(UserError, match=r"small.yaml:1: dataset.classes"):
        Suite.load(write_suite(text % (twelve, "0.5, 1.5")))


def test_the_order_is_part_of_ids_only_where_it_is_given() -> None:
    assert "classes" not in dataset_config(DatasetEntry(name="digits"))
    given = dataset_config(DatasetEntry(name="digits", classes=("1", "0")))
    assert given["classes"] == ["1", "0"]
