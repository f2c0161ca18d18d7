"""The value of every metric from somebody else's code: scikit-learn, scipy, torchmetrics, or plain numpy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr, softmax
from scipy.stats import entropy, pearsonr
from sklearn import metrics as sk
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error
from torchmetrics.functional.regression import kl_divergence

from tests.metrics.cases import Case


def top_k(case: Case, k: int) -> float | None:
    if len(case.classes) <= k:
        return None
    return sk.top_k_accuracy_score(case.labels, case.p, k=k, labels=list(case.classes))


def brier(case: Case) -> float:
    one_hot = np.eye(len(case.classes))[case.labels]
    return len(case.classes) * sk.mean_squared_error(one_hot, case.p)


def calibration(case: Case, p: np.ndarray, norm: Literal["l1", "max"]) -> float:
    assert p.max() < 1, "torchmetrics has a bin of its own for a confidence of 1"
    return multiclass_calibration_error(
        torch.from_numpy(p), torch.from_numpy(case.labels), p.shape[1], n_bins=15, norm=norm
    ).item()


def adaptive(case: Case, p: np.ndarray) -> float:
    order = p.max(1).argsort()
    gaps = ((case.student == case.labels) - p.max(1))[order]
    return sum(abs(part.sum()) for part in np.array_split(gaps, 15)) / len(gaps)


def classwise(case: Case, p: np.ndarray) -> float:
    one_hot = np.eye(p.shape[1], dtype=int)[case.labels]
    pairs = zip(torch.tensor(p.T.copy()), torch.tensor(one_hot.T.copy()), strict=True)
    return float(np.mean([binary_calibration_error(*pair, n_bins=15, norm="l1").item() for pair in pairs]))


def fitted(case: Case) -> float:
    def loss(log_t: float) -> float:
        p = softmax(case.validation_logits.astype(np.float64) / np.exp(log_t), axis=1)
        return sk.log_loss(case.validation_labels, p, labels=list(case.classes))

    return float(np.exp(minimize_scalar(loss, bounds=(-4, 4), options={"xatol": 1e-12}).x))


def scaled(case: Case) -> np.ndarray:
    return softmax(case.logits.astype(np.float64) / fitted(case), axis=1)


def risk_area(errors: np.ndarray) -> float:
    return float(np.mean([errors[:kept].mean() for kept in range(1, len(errors) + 1)]))


def errors_by_confidence(case: Case) -> np.ndarray:
    return (case.student != case.labels)[(-case.p.max(1)).argsort()]


def accuracy_at(case: Case, share: float) -> float:
    return 1 - errors_by_confidence(case)[: math.ceil(round(share * len(case.labels), 9))].mean()


def recalls(case: Case, predictions: np.ndarray) -> np.ndarray:
    return sk.recall_score(case.labels, predictions, labels=np.unique(case.labels), average=None)


def deltas(case: Case) -> np.ndarray:
    shift = case.top1(case.student) - case.top1(case.teacher)
    return np.sort(recalls(case, case.student) - recalls(case, case.teacher) - shift)


def alignment(case: Case, centre: Callable[[np.ndarray], np.ndarray]) -> float:
    """CKA from Gram matrices, which kdbench never forms."""
    ours, theirs = (
        centre(x.astype(np.float64) @ x.T.astype(np.float64)) for x in (case.features, case.teacher_features)
    )
    return float((ours * theirs).sum() / np.sqrt((ours**2).sum() * (theirs**2).sum()))


def double_centred(gram: np.ndarray) -> np.ndarray:
    h = np.eye(len(gram)) - 1 / len(gram)
    return h @ gram @ h


def u_centred(gram: np.ndarray) -> np.ndarray:
    """Székely and Rizzo 2014, Definition 2: products of such matrices are the unbiased estimates."""
    n = len(gram)
    hollow = gram - np.diag(np.diag(gram))
    rows = hollow.sum(1) / (n - 2)
    centred = hollow - rows - rows[:, None] + hollow.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(centred, 0)
    return centred


def label_or_other(case: Case, p: np.ndarray) -> np.ndarray:
    own = p[np.arange(len(p)), case.labels]
    return np.stack([own, 1 - own], axis=1)


def others(case: Case, p: np.ndarray) -> np.ndarray:
    kept = p[np.arange(p.shape[1]) != case.labels[:, None]].reshape(len(p), -1)
    return kept / kept.sum(1, keepdims=True)


def centred(logits: np.ndarray) -> np.ndarray:
    return logits - logits.mean(1, keepdims=True, dtype=np.float64)


def correlation_gap(case: Case) -> float | None:
    if len(case.classes) < 3:
        return None
    gaps = np.corrcoef(centred(case.logits).T) - np.corrcoef(centred(case.teacher_logits).T)
    return float(np.abs(gaps[~np.eye(len(gaps), dtype=bool)]).mean())


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


def by_size(case: Case, wanted: Callable[[int], bool]) -> float | None:
    """Mean recall of the classes whose number of training images is wanted."""
    sizes = np.bincount(case.train_labels, minlength=len(case.classes))
    group = [c for c in case.classes if wanted(sizes[c]) and c in case.labels]
    return sk.recall_score(case.labels, case.student, labels=group, average="macro") if group else None


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
    "accuracy_many": lambda c: by_size(c, lambda size: size > 100),
    "accuracy_medium": lambda c: by_size(c, lambda size: 20 <= size <= 100),
    "accuracy_few": lambda c: by_size(c, lambda size: size < 20),
    "ece": lambda c: calibration(c, c.p, "l1"),
    "mce": lambda c: calibration(c, c.p, "max"),
    "ece_adaptive": lambda c: adaptive(c, c.p),
    "classwise_ece": lambda c: classwise(c, c.p),
    "confidence_mean": lambda c: c.p.max(1).mean(),
    "overconfidence": lambda c: c.p.max(1).mean() - c.top1(c.student),
    "entropy_mean": lambda c: entropy(c.p, axis=1).mean(),
    "temperature_fitted": fitted,
    "nll_scaled": lambda c: sk.log_loss(c.labels, scaled(c), labels=list(c.classes)),
    "ece_scaled": lambda c: calibration(c, scaled(c), "l1"),
    "mce_scaled": lambda c: calibration(c, scaled(c), "max"),
    "ece_adaptive_scaled": lambda c: adaptive(c, scaled(c)),
    "classwise_ece_scaled": lambda c: classwise(c, scaled(c)),
    "agreement": lambda c: sk.accuracy_score(c.teacher, c.student),
    "cohen_kappa": lambda c: sk.cohen_kappa_score(c.teacher, c.student),
    "error_consistency": lambda c: sk.cohen_kappa_score(c.teacher == c.labels, c.student == c.labels),
    "kl_teacher_student": lambda c: kl(c.q, c.p),
    "kl_student_teacher": lambda c: kl(c.p, c.q),
    "js": lambda c: float((jensenshannon(c.p, c.q, axis=1) ** 2).mean()),
    "probability_loyalty": lambda c: float((1 - jensenshannon(c.p, c.q, base=2, axis=1)).mean()),
    "logit_mse": lambda c: sk.mean_squared_error(centred(c.logits), centred(c.teacher_logits)),
    "logit_correlation": lambda c: pearsonr(c.logits.astype(float), c.teacher_logits.astype(float), axis=1)[
        0
    ].mean(),
    "correlation_gap": correlation_gap,
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
    "teacher_entropy_norm": lambda c: (
        entropy(softmax(c.teacher_logits.astype(float) / c.temperature, axis=1), axis=1).mean()
        / math.log(len(c.classes))
    ),
    "kl_target": lambda c: kl(label_or_other(c, c.q), label_or_other(c, c.p)),
    "kl_non_target": lambda c: kl(others(c, c.q), others(c, c.p)) if len(c.classes) > 2 else None,
    "aurc": lambda c: risk_area(errors_by_confidence(c)),
    "e_aurc": lambda c: risk_area(errors_by_confidence(c)) - risk_area(np.sort(errors_by_confidence(c))),
    "accuracy_at_80_coverage": lambda c: accuracy_at(c, 0.8),
    "accuracy_at_90_coverage": lambda c: accuracy_at(c, 0.9),
    "error_auroc": lambda c: sk.roc_auc_score(c.student == c.labels, c.p.max(1)),
    "worst_class_drop": lambda c: -deltas(c)[0],
    "worst_decile_drop": lambda c: -deltas(c)[: math.ceil(len(deltas(c)) / 10)].mean(),
    "std_class_delta": lambda c: deltas(c).std(),
    "worst_class_recall": lambda c: recalls(c, c.student).min(),
    "cka_pooled": lambda c: alignment(c, double_centred),
    "cka_pooled_debiased": lambda c: alignment(c, u_centred),
}
