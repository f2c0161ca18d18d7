"""The long tail: the counts that the literature has, which rows stay, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdbench.data import load_dataset
from kdbench.data.imbalance import long_tail_counts, long_tailed
from kdbench.suite import Suite

Message = Callable[[Callable[[], object]], str]


@pytest.mark.parametrize(
    ("classes", "each", "factor", "total", "last"),
    [
        (10, 5000, 100, 12_406, 50),
        (10, 5000, 10, 20_431, 500),
        (100, 500, 100, 10_847, 5),
        (100, 500, 1, 50_000, 500),
    ],
)
def test_counts_are_those_of_long_tailed_cifar(
    classes: int, each: int, factor: float, total: int, last: int
) -> None:
    counts = long_tail_counts(np.full(classes, each), factor)
    assert (counts.sum(), counts[0], counts[-1]) == (total, each, last)


@given(
    st.lists(st.integers(1, 400), min_size=2, max_size=12),
    st.floats(1, 1e6),
    st.integers(0, 2**32 - 1),
)
def test_a_tail_holds_what_its_counts_say(sizes: list[int], factor: float, seed: int) -> None:
    labels = np.random.RandomState(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    rows = long_tailed(labels, len(sizes), factor, seed=seed)
    assert (np.diff(rows) > 0).all()
    counts = np.bincount(labels[rows], minlength=len(sizes))
    wanted = [max(sizes) * factor ** (-c / (len(sizes) - 1)) for c in range(len(sizes))]
    for size, count, ideal in zip(sizes, counts, wanted, strict=True):
        assert 1 <= count <= size
        assert count == size or ideal - 1 - 1e-6 <= count <= max(1, ideal + 1e-6)
    assert set(long_tailed(labels, len(sizes), 2 * factor, seed=seed)) <= set(rows)


def test_only_training_has_a_tail_and_the_seed_of_the_split_decides_it() -> None:
    whole = load_dataset("digits", validation_fraction=0.2)
    tail = load_dataset("digits", validation_fraction=0.2, imbalance_factor=20)
    assert torch.equal(tail.test.images, whole.test.images)
    assert torch.equal(tail.validation.images, whole.validation.images)
    counts = torch.bincount(tail.train.labels, minlength=10)
    largest = int(torch.bincount(whole.train.labels).max())
    assert counts[0] >= largest - 5 and counts[9] == largest // 20
    assert list(counts) == sorted(counts, reverse=True)
    assert tail.checksum == whole.checksum and tail.mean != whole.mean
    again = load_dataset("digits", validation_fraction=0.2, imbalance_factor=20)
    assert torch.equal(again.train.images, tail.train.images)
    other = load_dataset("digits", validation_fraction=0.2, imbalance_factor=20, split_seed=1)
    assert not torch.equal(other.train.images, tail.train.images)


def test_the_limit_comes_first() -> None:
    args = {"limit": 200}
    data = load_dataset("digits", validation_fraction=0, imbalance_factor=4, args=args)
    assert torch.bincount(data.train.labels).tolist() == [20, 17, 14, 12, 10, 9, 7, 6, 5, 5]


@pytest.mark.parametrize(
    ("factor", "shown"), [(0.5, "0.5"), (-3, "-3"), (float("nan"), "nan"), (float("inf"), "inf")]
)
def test_a_factor_that_makes_no_tail_is_refused(factor: float, shown: str, message_of: Message) -> None:
    text = message_of(lambda: load_dataset("digits", imbalance_factor=factor))
    assert text == f"imbalance.factor is {shown}: give a number of at least 1 (1 is no imbalance)."


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("{factor: 0.5}", "dataset.imbalance.factor: found 0.5; input should be greater than or equal to 1"),
        ("{factor: .nan}", "dataset.imbalance.factor: found nan"),
        ("{}", "dataset.imbalance.factor: the field is missing"),
        ("{factor: 3, seed: 1}", "dataset.imbalance.seed: unknown field 'seed'. Known: factor."),
        ("100", "dataset.imbalance: found 100"),
    ],
)
def test_a_suite_says_what_is_wrong_with_its_imbalance(
    entry: str, expected: str, small_suite: Callable[..., Suite], message_of: Message
) -> None:
    assert expected in message_of(lambda: small_suite(f"dataset.imbalance={entry}"))


def test_results_of_a_long_tail_carry_it_in_the_name_of_their_data(small_suite: Callable[..., Suite]) -> None:
    assert small_suite().dataset.shown == "digits"
    assert small_suite("dataset.imbalance={factor: 1}").dataset.shown == "digits"
    tail = small_suite("dataset.imbalance={factor: 100}")
    assert tail.dataset.shown == "digits (long tail of factor 100)"
