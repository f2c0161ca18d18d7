"""Every metric of the catalogue against a value that somebody else's code computes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr, softmax
from sklearn import metrics as sk
from torchmetrics.functional.classification import multiclass_calibration_error
from torchmetrics.functional.regression import kl_divergence

from kdbench.metrics import catalogue, score


@dataclass(frozen=True)
class Case:
    """Logits of a student and its teacher on one split, with labels; everything derived is numpy's."""

    logits: np.ndarray
    teacher_logits: np.ndarray
    labels: np.ndarray
    train_logits: np.ndarray
    train_labels: np.ndarray

    @property
    def classes(self) -> range:
        return range(self.logits.shape[1])

    @cached_property
    def p(self) -> np.ndarray:
        return softmax(self.logits.astype(np.float64), axis=1)

    @cached_property
    def q(self) -> np.ndarray:
        return softmax(self.teacher_logits.astype(np.float64), axis=1)

    @cached_property
    def student(self) -> np.ndarray:
        return self.logits.argmax(1)

    @cached_property
    def teacher(self) -> np.ndarray:
        return self.teacher_logits.argmax(1)

    @cached_property
    def joint(self) -> np.ndarray:
        """2 x 2: rows say whether the teacher is right, columns whether the student is."""
        return sk.confusion_matrix(
            self.teacher == self.labels, self.student == self.labels, labels=[False, True], normalize="all"
        )

    def top1(self, predictions: np.ndarray) -> float:
        return sk.accuracy_score(self.labels, predictions)

    def tensors(self) -> dict[str, torch.Tensor]:
        return {
            "logits": torch.from_numpy(self.logits),
            "labels": torch.from_numpy(self.labels),
            "teacher_logits": torch.from_numpy(self.teacher_logits),
            "train_logits": torch.from_numpy(self.train_logits),
            "train_labels": torch.from_numpy(self.train_labels),
        }


def make_case(count: int, num_classes: int, seed: int, absent: int = 0) -> Case:
    """A teacher mostly right, a student that follows it; the last ``absent`` classes have no label."""
    random = np.random.default_rng(seed)

    def logits(labels: np.ndarray, signal: float) -> np.ndarray:
        noise = random.normal(size=(len(labels), num_classes))
        return (noise + signal * np.eye(num_classes)[labels]).astype(np.float32)

    labels = random.integers(num_classes - absent, size=count)
    train_labels = random.integers(num_classes, size=2 * count + 1)
    teacher = logits(labels, 1.5)
    student = (0.6 * teacher + 0.8 * logits(labels, 1.0)).astype(np.float32)
    return Case(student, teacher, labels, logits(train_labels, 2.5), train_labels)


CASES = {
    "ten classes": make_case(400, 10, seed=0),
    "odd sizes": make_case(57, 7, seed=1),
    "two classes": make_case(90, 2, seed=2),
    "absent classes": make_case(80, 8, seed=3, absent=2),
    "more classes than examples": make_case(30, 64, seed=4),
}


def top_k(case: Case, k: int) -> float | None:
    if len(case.classes) <= k:
        return None
    return sk.top_k_accuracy_score(case.labels, case.p, k=k, labels=list(case.classes))


def brier(case: Case) -> float:
    one_hot = np.eye(len(case.classes))[case.labels]
    return len(case.classes) * sk.mean_squared_error(one_hot, case.p)


def ece(case: Case) -> float:
    assert case.p.max() < 1, "torchmetrics has a bin of its own for a confidence of 1"
    return multiclass_calibration_error(
        torch.from_numpy(case.p), torch.from_numpy(case.labels), len(case.classes), n_bins=15, norm="l1"
    ).item()


def kl(p: np.ndarray, q: np.ndarray) -> float:
    by_torchmetrics = kl_divergence(torch.from_numpy(p), torch.from_numpy(q), reduction="mean").item()
    assert rel_entr(p, q).sum(1).mean() == pytest.approx(by_torchmetrics, rel=1e-9)
    return by_torchmetrics


def correct(case: Case, predictions: np.ndarray) -> float:
    """Accuracy rescaled so that a guess gives 0 and perfection 1, as balanced accuracy is adjusted."""
    chance = 1 / len(case.classes)
    return (case.top1(predictions) - chance) / (1 - chance)


def wrong_teacher(case: Case) -> tuple[np.ndarray, np.ndarray]:
    wrong = case.teacher != case.labels
    return case.teacher[wrong], case.student[wrong]


INDEPENDENT: dict[str, Callable[[Case], float | None]] = {
    "top1": lambda c: c.top1(c.student),
    "top5": lambda c: top_k(c, 5),
    "balanced_accuracy": lambda c: sk.recall_score(
        c.labels, c.student, labels=np.unique(c.labels), average="macro"
    ),
    "macro_f1": lambda c: sk.f1_score(c.labels, c.student, average="macro"),
    "nll": lambda c: sk.log_loss(c.labels, c.p, labels=list(c.classes)),
    "brier": brier,
    "generalization_gap": lambda c: (
        sk.accuracy_score(c.train_labels, c.train_logits.argmax(1)) - c.top1(c.student)
    ),
    "ece": ece,
    "agreement": lambda c: sk.accuracy_score(c.teacher, c.student),
    "cohen_kappa": lambda c: sk.cohen_kappa_score(c.teacher, c.student),
    "error_consistency": lambda c: sk.cohen_kappa_score(c.teacher == c.labels, c.student == c.labels),
    "kl_teacher_student": lambda c: kl(c.q, c.p),
    "kl_student_teacher": lambda c: kl(c.p, c.q),
    "js": lambda c: float((jensenshannon(c.p, c.q, axis=1) ** 2).mean()),
    "probability_loyalty": lambda c: float((1 - jensenshannon(c.p, c.q, base=2, axis=1)).mean()),
    "churn": lambda c: sk.zero_one_loss(c.teacher, c.student),
    "negative_flips": lambda c: c.joint[1, 0],
    "positive_flips": lambda c: c.joint[0, 1],
    "both_right": lambda c: c.joint[1, 1],
    "teacher_only": lambda c: c.joint[1, 0],
    "student_only": lambda c: c.joint[0, 1],
    "both_wrong": lambda c: c.joint[0, 0],
    "inherited_errors": lambda c: sk.accuracy_score(*wrong_teacher(c)),
    "retention": lambda c: c.top1(c.student) / c.top1(c.teacher),
    "retention_chance_corrected": lambda c: correct(c, c.student) / correct(c, c.teacher),
}

# torchmetrics puts its bin edges in float32; everything else is float64 throughout.
TOLERANCE = {"ece": 1e-6}


@pytest.fixture(scope="module")
def scores() -> dict[str, dict[str, float | None]]:
    return {name: score(case.tensors())[0] for name, case in CASES.items()}


def test_every_metric_has_an_independent_value() -> None:
    assert set(INDEPENDENT) == set(catalogue())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", catalogue())
def test_equals_the_independent_value(
    name: str, case: str, scores: dict[str, dict[str, float | None]]
) -> None:
    expected = INDEPENDENT[name](CASES[case])
    if expected is None:
        assert scores[case][name] is None
    else:
        assert scores[case][name] == pytest.approx(expected, rel=TOLERANCE.get(name, 1e-10))


def test_cases_tell_metrics_apart() -> None:
    """A table of values that coincide by accident would let one metric pass for another."""
    same = {frozenset({"teacher_only", "negative_flips"}), frozenset({"student_only", "positive_flips"})}
    values, _ = score(CASES["ten classes"].tensors())
    pairs = {
        frozenset({a, b}) for a in values for b in values if a < b and math.isclose(values[a], values[b])
    }
    assert pairs == same


def test_balanced_accuracy_and_brier_under_the_names_of_scikit_learn() -> None:
    case = CASES["ten classes"]
    values, _ = score(case.tensors())
    assert values["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(case.labels, case.student))
    binary = CASES["two classes"]
    halved = sk.brier_score_loss(binary.labels, binary.p[:, 1])
    assert score(binary.tensors())[0]["brier"] == pytest.approx(2 * halved)


ENDS = {"-∞": -math.inf, "∞": math.inf, "ln 2": math.log(2)}


@pytest.mark.parametrize("name", catalogue())
def test_column_describes_its_values(name: str, scores: dict[str, dict[str, float | None]]) -> None:
    column = catalogue()[name]
    low, high = (ENDS[end] if end in ENDS else float(end) for end in column.range[1:-1].split(", "))
    values = [v for case in scores.values() if (v := case[name]) is not None]
    assert values
    assert all(low <= value <= high for value in values)
    assert column.name == name
    assert column.title
    assert column.source
    assert column.direction in ("higher", "lower", "none")
    assert (column.unit == "nats") == (name in {"nll", "js", "kl_teacher_student", "kl_student_teacher"})


def test_display_order_is_by_family_then_as_written() -> None:
    columns = catalogue()
    assert list(columns) == list(INDEPENDENT)
    assert list(score({})[0]) == list(columns)
    families = [column.family for column in columns.values()]
    assert list(dict.fromkeys(families)) == ["task", "calibration", "fidelity"]
    assert families == sorted(families, key=["task", "calibration", "fidelity"].index)
