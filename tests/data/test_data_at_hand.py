"""Finished records compared with the data that is at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdbench.data import dataset_checksum, load_entry
from kdbench.data.at_hand import compare_data, refuse_other_data
from kdbench.errors import UserError
from kdbench.store import Record
from kdbench.store.record import Role
from kdbench.suite.schema import DatasetEntry


def pets(path: Path) -> Path:
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            (path / split / label).mkdir(parents=True)
            for index in range(4):
                pixels = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(path / split / label / f"{index}.png")
    return path


def record(id: str, entry: DatasetEntry, checksum: str, role: Role = "student") -> Record:
    config = {"dataset": entry.model_dump(mode="json")}
    return Record(id, role, "ok", "t", 0, config=config, provenance={"data_checksum": checksum})


@pytest.mark.parametrize(
    "fields",
    [
        {"args": {"limit": 4, "limit_test": 2}, "validation_fraction": 0.5},
        {"args": {"size": 4, "channels": 1}},
        {"validation_fraction": 0.5, "split_seed": 3},
        {"augment": {"flip": True}},
    ],
)
def test_the_checksum_is_that_of_the_dataset_when_it_is_loaded(fields: dict, tmp_path: Path) -> None:
    usual = {"validation_fraction": 0.25}
    entry = DatasetEntry(name=f"folder:{pets(tmp_path)}", **(usual | fields))
    assert dataset_checksum(entry) == load_entry(entry).checksum
    digits = DatasetEntry(name="digits", **(usual | fields | {"args": {"limit": 50}}))
    assert dataset_checksum(digits) == load_entry(digits).checksum


def test_records_of_other_data_are_named_with_both_checksums(tmp_path: Path) -> None:
    entry = DatasetEntry(name=f"folder:{pets(tmp_path / 'pets')}", args={"limit": 8})
    now = dataset_checksum(entry)
    records = [record("t", entry, now, "teacher"), *(record(f"c{n}", entry, "0" * 64) for n in range(7))]
    (found,) = compare_data(records)
    assert found.fault == (
        f"7 of 8 finished records are of other data than '{entry.name}' holds now (checksum 000000000000 "
        f"then, {now[:12]} now): nodes/c0, nodes/c1, nodes/c2, nodes/c3, nodes/c4 and 2 more"
    )
    with pytest.raises(UserError, match=r"changed since runs/x was begun: 7 of 8 .* choose another --out"):
        refuse_other_data(found, Path("runs/x"))
    (same,) = compare_data(records[:1])
    assert same.fault is None and same.uncompared is None
    refuse_other_data(same, Path("runs/x"))


def test_every_record_is_compared_under_its_own_limits(tmp_path: Path) -> None:
    name = f"folder:{pets(tmp_path)}"
    entries = [DatasetEntry(name=name, args={"limit": limit}) for limit in (4, 6)]
    sums = [dataset_checksum(entry) for entry in entries]
    assert sums[0] != sums[1]
    found = list(
        compare_data(record(f"c{n}", *pair) for n, pair in enumerate(zip(entries, sums, strict=True)))
    )
    assert [(comparison.records, comparison.fault) for comparison in found] == [(1, None)] * 2


def test_what_is_not_at_hand_or_too_much_is_not_compared_and_nothing_is_fetched(tmp_path: Path) -> None:
    mnist = DatasetEntry(name="mnist")
    (absent,) = compare_data([record("c", mnist, "0" * 64)], data_root=tmp_path / "none")
    assert absent.fault is None and "mnist is not complete under" in str(absent.uncompared)
    assert not (tmp_path / "none").exists()
    entry = DatasetEntry(name=f"folder:{pets(tmp_path / 'pets')}")
    (large,) = compare_data([record("c", entry, "0" * 64)], most=16 * 6 * 6 * 3 - 1)
    assert large.fault is None and "1.7 kB of pixels, more than" in str(large.uncompared)
    (read,) = compare_data([record("c", entry, "0" * 64)], most=16 * 6 * 6 * 3)
    assert read.fault is not None


def test_records_that_tell_nothing_of_their_data_are_left_out() -> None:
    assert list(compare_data([Record("c", "student", "ok", "t", 0)])) == []
