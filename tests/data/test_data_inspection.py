"""One pass that names everything in a dataset that a run would refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from kdbench.cli import app
from kdbench.data import inspect_entry, load_dataset
from kdbench.data.inspection import MOST_NAMED
from kdbench.errors import UserError
from kdbench.suite.schema import DatasetEntry

IMAGES = list(np.random.default_rng(0).integers(0, 256, (6, 5, 4, 3), dtype=np.uint8))


@pytest.fixture
def pets(tmp_path: Path, write_images: Callable) -> Path:
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            write_images(tmp_path / "pets" / split / label, IMAGES)
    return tmp_path / "pets"


def lines(name: str, **fields: object) -> list[str]:
    decode = bool(fields.pop("decode", True))
    entry = DatasetEntry.model_validate({"name": name, "validation_fraction": 0} | fields)
    return inspect_entry(entry, decode=decode).lines


def test_sound_data_have_no_fault(pets: Path) -> None:
    found = inspect_entry(DatasetEntry(name=f"folder:{pets}", validation_fraction=0.5))
    assert (found.lines, found.images) == ([], 24)


def test_every_bad_file_is_named_and_every_bad_folder(pets: Path, write_images: Callable) -> None:
    torn = [pets / name for name in ("train/cat/000.png", "train/dog/003.png", "test/dog/005.png")]
    for path in torn:
        path.write_bytes(path.read_bytes()[:60])
    foreign = [pets / "test" / "bird", pets / "test" / "dgo"]
    for path in foreign:
        write_images(path, IMAGES)
    (pets / "train" / "eel").mkdir()
    odd = write_images(pets / "test" / "cat" / "more", [np.zeros((9, 9, 3), np.uint8)])[0]
    found = lines(f"folder:{pets}")
    for path in (*torn, *foreign, pets / "train" / "eel", odd):
        assert sum(str(path) in line for line in found) == 1, path
    assert any("class 'eel'" in line and "no training example" in line for line in found)
    assert len(found) == 8 and all("\n" not in line for line in found)
    # What can be known without reading an image is known without.
    listed = lines(f"folder:{pets}", decode=False)
    assert sum("is not a class of the training split" in line for line in listed) == 2
    with pytest.raises(UserError):
        load_dataset(f"folder:{pets}")


def test_what_is_wrong_with_the_split_is_found_too(pets: Path) -> None:
    assert lines(f"folder:{pets}", validation_fraction=0.01) != []
    assert "mean has 1 entries" in lines(f"folder:{pets}", args={"mean": [0.5]})[0]


def test_rows_of_parquet_are_named(tmp_path: Path, write_parquet: Callable) -> None:
    write_parquet(tmp_path / "train.parquet", [*IMAGES[:4], b"torn", None], [0, 1, 0, 1, 0, 1])
    write_parquet(tmp_path / "test.parquet", IMAGES[:3], [0, 1, 7], names=None)
    found = lines(f"parquet:{tmp_path}")
    assert any(f"{tmp_path}/train.parquet row 4 (not an image)" in line for line in found)
    assert any(f"{tmp_path}/train.parquet row 5 holds no image bytes" in line for line in found)
    assert sum("has no training example" in line for line in found) == 6
    with pytest.raises(UserError, match="no training example"):
        load_dataset(f"parquet:{tmp_path}")


@pytest.mark.parametrize("label", [-1, -(2**63), 9])
def test_labels_out_of_range_are_named_and_nothing_is_split(
    tmp_path: Path, write_parquet: Callable, label: int
) -> None:
    write_parquet(tmp_path / "train.parquet", IMAGES[:4], [0, 1, 0, label])
    write_parquet(tmp_path / "test.parquet", IMAGES[:3], [0, 1, 1])
    assert any(str(label) in line for line in lines(f"parquet:{tmp_path}"))


def test_of_many_faults_the_rest_is_counted(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for label in ("a", "b"):
            (tmp_path / split / label).mkdir(parents=True)
            for row in range(30):
                (tmp_path / split / label / f"{row}.png").write_bytes(b"no image")
    found = lines(f"folder:{tmp_path}")
    # Of the training split none can be read, and there is no first image to compare the others with.
    assert "no training image that can be read" in found[-1] and len(found) == 61
    for label in ("a", "b"):
        for row in range(30, 90):
            (tmp_path / "train" / label / f"{row}.png").write_bytes(b"no image")
    found = lines(f"folder:{tmp_path}")
    assert len(found) == MOST_NAMED + 1 and found[-1].startswith("and 81 more")


def test_the_command_says_what_it_read_and_fails_where_something_is_wrong(
    pets: Path, write_suite: Callable
) -> None:
    suite = write_suite(
        f"dataset: {{name: 'folder:{pets}', validation_fraction: 0.5}}\n"
        "teachers: [mlp_8]\nstudents: [mlp_4]\nmethods: [scratch]\nseeds: [0]\n"
        "recipe: {epochs: 1, batch_size: 2}\n"
    )

    def check(*options: str) -> tuple[int, str]:
        ran = CliRunner().invoke(app, ["check", str(suite), *options], catch_exceptions=False)
        return ran.exit_code, " ".join(ran.stdout.split())

    assert check() == (0, f"{suite}: a valid suite; its images were not read (--data reads them)")
    assert check("--data") == (0, f"{suite}: a valid suite, and its 24 images can be read")
    bad = pets / "test" / "dog" / "002.png"
    bad.write_bytes(b"")
    assert check()[0] == 0
    status, text = check("--data", "--json")
    assert status == 1 and [str(bad) in row["problem"] for row in json.loads(text)] == [True]
    (pets / "test" / "dgo").mkdir()
    status, text = check()
    assert status == 1 and "Did you mean 'dog'?" in text
    with pytest.raises(UserError, match="--data goes with a suite"):
        CliRunner().invoke(app, ["check", str(pets), "--data"], catch_exceptions=False)
