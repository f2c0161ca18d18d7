"""Metrics of several labels an example, against scikit-learn, on random cases with ties and rare labels."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.special import expit, rel_entr
from sklearn import metrics as sk

from kdbench.metrics import catalogue, score
from kdbench.targets import find_target
from kdbench.targets.multi_label import set_codes

MULTI_LABEL = find_target("multi_label")
OWN = {
    "map": "task",
    "f1_micro": "task",
    "f1_macro": "task",
    "exact_match": "task",
    "hamming_accuracy": "task",
    "bce": "task",
    "set_agreement": "fidelity",
    "label_agreement": "fidelity",
    "binary_kl": "fidelity",
    "cka_pooled": "features",
    "cka_pooled_debiased": "features",
}
# Few values, so that logits are equal often.
LOGITS = st.integers(-3, 3).map(lambda value: value / 2 + 0.25)

Case = tuple[np.ndarray, np.ndarray, np.ndarray]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Logits of student and teacher, and labels, of up to twelve examples and two to four labels."""
    shape = draw(st.tuples(st.integers(1, 12), st.integers(2, 4)))
    student, teacher = (draw(arrays.arrays(np.float32, shape, elements=LOGITS)) for _ in range(2))
    return student, teacher, draw(arrays.arrays(np.uint8, shape, elements=st.integers(0, 1)))


def scored(student: np.ndarray, teacher: np.ndarray, sets: np.ndarray) -> dict[str, float | None]:
    tensors = {
        "label_logits": torch.from_numpy(student),
        "teacher_label_logits": torch.from_numpy(teacher),
        "label_sets": torch.from_numpy(sets),
    }
    return score(tensors, target=MULTI_LABEL)[0]


def independent(student: np.ndarray, teacher: np.ndarray, sets: np.ndarray) -> dict[str, float | None]:
    """The same values by scikit-learn and scipy."""
    predicted, taught = student > 0, teacher > 0
    p, q = expit(student.astype(np.float64)), expit(teacher.astype(np.float64))
    labels = range(sets.shape[1])
    losses = [sk.log_loss(sets[:, k], p[:, k], labels=[0, 1]) for k in labels]
    precisions = [sk.average_precision_score(sets[:, k], student[:, k]) for k in labels if sets[:, k].any()]

    def f1(average: str) -> float | None:
        if not sets.any() and not predicted.any():
            return None
        return float(sk.f1_score(sets, predicted, average=average, zero_division=np.nan))

    return {
        "map": float(np.mean(precisions)) if precisions else None,
        "f1_micro": f1("micro"),
        "f1_macro": f1("macro"),
        "exact_match": sk.accuracy_score(sets, predicted),
        "hamming_accuracy": 1 - sk.hamming_loss(sets, predicted),
        "bce": float(np.mean(losses)),
        "set_agreement": sk.accuracy_score(taught, predicted),
        "label_agreement": 1 - sk.hamming_loss(taught, predicted),
        "binary_kl": float((rel_entr(q, p) + rel_entr(1 - q, 1 - p)).mean()),
    }


@given(cases())
def test_equals_scikit_learn(case: Case) -> None:
    values, expected = scored(*case), independent(*case)
    for name, value in expected.items():
        assert values[name] == (None if value is None else pytest.approx(value, rel=1e-9, abs=1e-9)), name


@given(cases(), st.randoms(use_true_random=False))
def test_the_order_of_examples_and_labels_changes_nothing(case: Case, random: Random) -> None:
    rows, columns = list(range(len(case[0]))), list(range(case[0].shape[1]))
    random.shuffle(rows)
    random.shuffle(columns)
    shuffled = scored(*(np.ascontiguousarray(part[rows][:, columns]) for part in case))
    for name, value in scored(*case).items():
        assert shuffled[name] == (None if value is None else pytest.approx(value, rel=1e-9, abs=1e-12)), name


def test_the_metrics_of_a_target_are_those_whose_tensors_it_has() -> None:
    columns = catalogue(MULTI_LABEL)
    assert {name: column.family for name, column in columns.items()} == OWN
    assert not {"map", "bce", "set_agreement"} & catalogue(find_target("single_label")).keys()
    assert columns.keys() < catalogue().keys()


def test_reasons_of_what_is_missing() -> None:
    logits, sets = torch.tensor([[-1.0, -2.0]]), torch.tensor([[0, 0]])
    _, reasons = score({"label_logits": logits, "label_sets": sets}, target=MULTI_LABEL)
    assert reasons["map"] == "no example has a label"
    assert reasons["f1_micro"] == reasons["f1_macro"] == "no label is there or predicted"
    assert reasons["set_agreement"] == "needs the teacher's logits of the labels"
    logits[0, 0] = math.nan
    _, reasons = score({"label_logits": logits, "label_sets": sets}, target=MULTI_LABEL)
    assert reasons["bce"] == "NaN or infinity in 1 of 1 examples of the student's logits of the labels"


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (torch.tensor([[0, 2]]), "label_sets reach from 0 to 2, expected 0 and 1"),
        (torch.tensor([[0.0, 1.0]]), "label_sets has type torch.float32, expected integers"),
        (torch.tensor([[0, 1, 1]]), r"label_sets has shape \(1, 3\), but label_logits.*agree in K"),
    ],
)
def test_sets_that_are_none_are_refused(sets: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score({"label_logits": torch.zeros(1, 2), "label_sets": sets}, target=MULTI_LABEL)


@pytest.mark.parametrize("width", [1, 8, 63, 64, 65, 300])
def test_codes_of_sets_tell_them_apart(width: int) -> None:
    sets = np.random.default_rng(0).integers(2, size=(200, width), dtype=np.uint8)
    sets[150:] = sets[:50]
    sets[0] = 1
    codes = set_codes(sets)
    assert codes.dtype == np.uint64
    same = (sets[:, None] == sets[None]).all(axis=2)
    assert np.array_equal(codes[:, None] == codes[None], same)
    assert same.sum() > 200 and not same.all()
