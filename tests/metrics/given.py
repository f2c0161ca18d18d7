"""Tensors of every kind that `score` takes, small and without ties."""

from __future__ import annotations

import torch
from torch import Tensor

COUNT, CLASSES = 12, 6
# A long tail: many-, medium- and few-shot classes are there.
TRAIN_LABELS = torch.repeat_interleave(torch.arange(CLASSES), torch.tensor([101, 60, 20, 19, 2, 1]))


def given() -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(CLASSES, (COUNT,), generator=random)
    signal = torch.nn.functional.one_hot(labels, CLASSES)
    return {
        "logits": torch.randn(COUNT, CLASSES, generator=random) + signal,
        "labels": labels,
        "teacher_logits": torch.randn(COUNT, CLASSES, generator=random) + 2 * signal,
        "train_logits": torch.randn(len(TRAIN_LABELS), CLASSES, generator=random),
        "train_labels": TRAIN_LABELS,
        "validation_logits": torch.randn(9, CLASSES, generator=random) + signal[:9],
        "validation_labels": labels[:9],
        "features": torch.randn(COUNT, 3, generator=random),
        "teacher_features": torch.randn(COUNT, 4, generator=random),
        "temperature": torch.tensor(4.0),
    }
