"""The examples in the order of their confidence, with ties settled so that no order of the data matters."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Confidences nearer than 2^−40 (1e−12) are one: how float64 rounds their last digits is no order.
RESOLUTION = 2.0**40


@dataclass(frozen=True)
class Ranking:
    """The examples from the highest confidence to the lowest; those of equal confidence are a group.

    Attributes:
        correct: (N,), 1 for right and 0 for wrong; within a group each holds the group's mean, which is
            its expectation under a random order of the tied.
        confidence: (N,), within a group its mean.
        right: (G,) how many of each group are right.
        counts: (G,) how many examples each group has.
    """

    correct: Tensor
    confidence: Tensor
    right: Tensor
    counts: Tensor


def ranked(log_probs: Tensor, predictions: Tensor, labels: Tensor) -> Ranking:
    """Return the ranking of examples by their highest probability, on the CPU.

    Shapes: (N, K), (N,), (N,).

    >>> from torch import tensor
    >>> log_probs = tensor([[0.5, 0.5], [0.9, 0.1], [0.5, 0.5]]).double().log()
    >>> ranking = ranked(log_probs, tensor([0, 0, 0]), tensor([0, 0, 1]))
    >>> ranking.correct.tolist(), ranking.counts.tolist()
    ([1.0, 0.5, 0.5], [1, 2])
    """
    confidences = log_probs.amax(dim=1).exp().double().cpu()
    correct = (predictions == labels).cpu()
    keys = -(confidences * RESOLUTION).round().long()
    _, group, counts = torch.unique(keys, return_inverse=True, return_counts=True)
    right = torch.bincount(group, weights=correct.double(), minlength=len(counts))
    confidence = torch.bincount(group, weights=confidences, minlength=len(counts))
    return Ranking(
        (right / counts).repeat_interleave(counts),
        (confidence / counts).repeat_interleave(counts),
        right.long(),
        counts,
    )
