from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdbench.data.splits import balanced, roles, stratified

ERROR = {"part": "validation", "mend": "Change it."}


def labels_of(counts: list[int], seed: int = 0) -> np.ndarray:
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(seed).permutation(labels)


@given(
    counts=st.lists(st.integers(8, 60), min_size=2, max_size=8),
    fraction=st.floats(0.13, 0.87),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_row_is_in_one_part_and_classes_keep_their_share(
    counts: list[int], fraction: float, seed: int
) -> None:
    labels = labels_of(counts)
    rest, part = stratified(labels, [str(k) for k in range(len(counts))], fraction, seed=seed, **ERROR)
    assert sorted([*rest, *part]) == list(range(len(labels)))
    assert list(rest) == sorted(rest)
    assert list(part) == sorted(part)
    assert len(part) == round(fraction * len(labels))
    in_part = np.bincount(labels[part], minlength=len(counts))
    # The largest remainder rounds every class's share up or down, never further.
    assert (np.abs(in_part - fraction * np.array(counts)) < 1).all()


@given(
    counts=st.lists(st.integers(2, 300), min_size=2, max_size=6),
    fraction=st.floats(0.05, 0.95),
)
def test_rare_classes_are_on_both_sides(counts: list[int], fraction: float) -> None:
    labels = labels_of(counts)
    size = round(fraction * len(labels))
    if min(size, len(labels) - size) < len(counts):
        return
    rest, part = stratified(labels, "abcdef"[: len(counts)], fraction, seed=3, **ERROR)
    assert set(labels[rest]) == set(labels[part]) == set(range(len(counts)))
    assert abs(len(part) - size) < len(counts)


def test_the_seed_alone_decides() -> None:
    labels = labels_of([50, 50])
    first = stratified(labels, "ab", 0.2, seed=1, **ERROR)[1]
    assert (first == stratified(labels, "ab", 0.2, seed=1, **ERROR)[1]).all()
    assert set(first) != set(stratified(labels, "ab", 0.2, seed=2, **ERROR)[1])


def test_a_split_stays_the_same_in_every_version() -> None:
    part = stratified(np.array([0, 1, 2] * 5), "abc", 0.4, seed=0, **ERROR)[1]
    assert part.tolist() == [4, 5, 6, 10, 11, 12]


@pytest.mark.parametrize(
    ("counts", "fraction", "texts"),
    [
        ([10, 1], 0.5, ["class 'b' has 1 example:", "training and the validation part", "Change it."]),
        ([10, 0], 0.5, ["class 'b' has 0 examples"]),
        (
            [50, 50],
            0.01,
            ["0.01 of 100 examples as validation part leaves 1 in the validation part, fewer than one a"],
        ),
        ([50, 50], 0.99, ["leaves 1 in the training part, fewer than one a class (2 classes). Change it."]),
    ],
)
def test_splits_that_cannot_be_made(
    counts: list[int], fraction: float, texts: list[str], message_of: Callable
) -> None:
    message = message_of(lambda: stratified(labels_of(counts), "ab", fraction, seed=0, **ERROR))
    for text in texts:
        assert text in message


@given(counts=st.lists(st.integers(1, 40), min_size=2, max_size=6), data=st.data())
def test_subsets_are_balanced_and_nested(counts: list[int], data: st.DataObject) -> None:
    labels = labels_of(counts)
    limit = data.draw(st.integers(len(counts), len(labels)))
    rows = balanced(labels, limit)
    assert len(set(rows.tolist())) == limit
    kept = np.bincount(labels[rows], minlength=len(counts))
    # A class has fewer than another only by one, or because it has no more.
    assert all(n == count or n >= kept.max() - 1 for n, count in zip(kept, counts, strict=True))
    assert set(balanced(labels, limit - 1).tolist()) < set(rows.tolist())


def test_roles_of_the_splits_on_disk(message_of: Callable) -> None:
    assert roles(["train", "test"], "x") == {"train": "train", "test": "test"}
    assert roles(["train", "val", "test"], "x") == {"train": "train", "test": "test", "validation": "val"}
    assert roles(["train", "valid"], "x") == {"train": "train", "test": "valid"}
    assert message_of(lambda: roles(["train"], "x")) == "x has no test split (only train): add 'test'."
    assert "no train split (no split)" in message_of(lambda: roles([], "x"))
