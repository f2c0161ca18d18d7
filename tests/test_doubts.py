"""What makes the accuracy of loaded weights doubtful: another order of classes, a guessed normalisation."""

from __future__ import annotations

import json

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import confusion_matrix
from torch import Tensor

from kdbench.data import load_dataset
from kdbench.runner.doubts import class_order, guessed_normalisation, near_chance, telling_split
from kdbench.suite.schema import DatasetEntry

SORTED = tuple(sorted(str(number) for number in range(12)))
NATURAL = tuple(str(number) for number in range(12))


def classifier(labels: Tensor, order: list[int], accuracy: float) -> Tensor:
    """Return logits of a model whose output k stands for class order[k], right in so many of the cases."""
    generator = torch.Generator().manual_seed(1)
    count = len(order)
    right = torch.rand(len(labels), generator=generator) < accuracy
    seen = torch.where(right, labels, torch.randint(count, labels.shape, generator=generator))
    output = torch.empty(count, dtype=torch.long)
    output[torch.tensor(order)] = torch.arange(count)
    return torch.nn.functional.one_hot(output[seen], count).float()


def labels_of(classes: int, each: int) -> Tensor:
    return torch.arange(classes).repeat_interleave(each)


def test_natural_against_sorted_order_is_found() -> None:
    labels = labels_of(12, 20)
    logits = classifier(labels, [SORTED.index(name) for name in NATURAL], 1.0)
    assert (logits.argmax(1) == labels).double().mean().item() == pytest.approx(2 / 12)
    found = class_order(logits, labels, SORTED)
    assert found is not None
    assert found.classes == NATURAL and found.after == 1.0
    assert "natural order of the names" in found.text and "\n" not in found.text
    assert json.loads(found.text.partition("classes: ")[2]) == list(NATURAL)


@pytest.mark.parametrize(
    ("order", "accuracy", "each"),
    [
        ([1, 0, *range(2, 12)], 0.9, 60),
        (torch.randperm(100, generator=torch.Generator().manual_seed(2)).tolist(), 0.3, 100),
        ([1, 0], 0.9, 40),
    ],
    ids=["two of twelve", "a weak model of a hundred", "both of two"],
)
def test_any_order_that_explains_the_mistakes_is_found(order: list[int], accuracy: float, each: int) -> None:
    names = tuple(f"c{k}" for k in range(len(order)))
    labels = labels_of(len(order), each)
    found = class_order(classifier(labels, order, accuracy), labels, names)
    assert found is not None
    assert found.classes == tuple(names[k] for k in order)
    assert found.after - found.before > 0.1


@pytest.mark.parametrize("accuracy", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize(("classes", "each"), [(2, 50), (12, 20), (100, 5)])
def test_a_bad_model_in_the_right_order_is_not_suspected(accuracy: float, classes: int, each: int) -> None:
    names = tuple(f"c{k}" for k in range(classes))
    labels = labels_of(classes, each)
    assert class_order(classifier(labels, list(range(classes)), accuracy), labels, names) is None


def test_an_order_is_judged_by_examples_that_did_not_choose_it() -> None:
    labels = labels_of(100, 5)
    logits = torch.randn(500, 100, generator=torch.Generator().manual_seed(3))
    counts = confusion_matrix(labels, logits.argmax(1), labels=range(100))
    rows, columns = linear_sum_assignment(counts, maximize=True)
    assert counts[rows, columns].sum() / 500 > 0.2, "on the same examples chance looks like an order"
    assert class_order(logits, labels, tuple(map(str, range(100)))) is None


def test_a_model_that_says_one_thing_only_or_nothing_has_no_order() -> None:
    labels = labels_of(12, 20)
    collapsed = torch.zeros(240, 12)
    collapsed[:, 3] = 1
    assert class_order(collapsed, labels, SORTED) is None
    assert class_order(torch.full((240, 12), torch.nan), labels, SORTED) is None


def test_a_long_list_of_names_is_cut_and_says_where_all_are() -> None:
    order = [*range(1, 100), 0]
    labels = labels_of(100, 20)
    found = class_order(classifier(labels, order, 1.0), labels, tuple(f"c{k:02}" for k in range(100)))
    assert found is not None and len(found.classes) == 100
    assert found.text.count('"c') == 30 and "kdbench evaluate --json" in found.text


def test_near_chance_depends_on_the_number_of_classes() -> None:
    assert "chance is 10.0%" in str(near_chance(0.12, 0.1))
    assert near_chance(0.12, 0.01) is None


def test_what_is_guessed_of_the_normalisation_is_told() -> None:
    args = {"limit": 100, "limit_test": 50}
    entry = DatasetEntry(name="digits", args=args, validation_fraction=0.2)
    data = load_dataset("digits", args=args, validation_fraction=0.2)
    told = guessed_normalisation(entry, data)
    assert told is not None and "\n" not in told
    assert f"mean [{data.mean[0]:.4g}] and std [{data.std[0]:.4g}]" in told
    assert "estimated from the 80 training images (limit: 100)" in told
    only_mean = guessed_normalisation(DatasetEntry(name="digits", args={"mean": [0.5]}), data)
    assert only_mean is not None and "gives no std: images are normalised by std" in only_mean
    given = DatasetEntry(name="digits", args={"mean": [0.5], "std": [0.5]})
    assert guessed_normalisation(given, data) is None
    assert telling_split(data) == "train", "2 validation images a class tell little"
