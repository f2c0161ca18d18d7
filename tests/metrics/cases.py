"""Cases that metrics are tried on: a student and its teacher, with what numpy and scipy derive from them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import torch
from scipy.special import softmax
from sklearn import metrics as sk


@dataclass(frozen=True)
class Case:
    """Logits of a student and its teacher on one split, with labels; everything derived is numpy's."""

    logits: np.ndarray
    teacher_logits: np.ndarray
    labels: np.ndarray
    train_logits: np.ndarray
    train_labels: np.ndarray
    validation_logits: np.ndarray
    validation_labels: np.ndarray
    features: np.ndarray
    teacher_features: np.ndarray
    temperature: float = 4.0

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
        given = {
            field.name: getattr(self, field.name) for field in fields(self) if field.name != "temperature"
        }
        temperature = torch.tensor(self.temperature, dtype=torch.float64)
        return {name: torch.from_numpy(array) for name, array in given.items()} | {"temperature": temperature}


def make_case(count: int, num_classes: int, seed: int, absent: int = 0) -> Case:
    """A teacher mostly right, a student that follows it; the last ``absent`` classes have no label."""
    random = np.random.default_rng(seed)

    def logits(labels: np.ndarray, signal: float) -> np.ndarray:
        noise = random.normal(size=(len(labels), num_classes))
        return (noise + signal * np.eye(num_classes)[labels]).astype(np.float32)

    labels = random.integers(num_classes - absent, size=count)
    tail = 0.45 ** np.arange(num_classes)
    train_labels = random.choice(num_classes, size=2 * count + 1, p=tail / tail.sum())
    teacher = logits(labels, 1.5)
    student = (0.6 * teacher + 0.8 * logits(labels, 1.0)).astype(np.float32)
    validation_labels = random.integers(num_classes, size=count + 3)
    teacher_features = random.normal(size=(count - 2, 5))
    features = teacher_features @ random.normal(size=(5, 3)) + random.normal(size=(count - 2, 3)) + 4
    return Case(
        student,
        teacher,
        labels,
        logits(train_labels, 2.5),
        train_labels,
        logits(validation_labels, 1.5),
        validation_labels,
        features.astype(np.float32),
        teacher_features.astype(np.float32),
    )


CASES = {
    "ten classes": make_case(400, 10, seed=0),
    "odd sizes": make_case(57, 7, seed=1),
    "two classes": make_case(90, 2, seed=2),
    "absent classes": make_case(80, 8, seed=3, absent=2),
    "more classes than examples": make_case(30, 64, seed=4),
}
