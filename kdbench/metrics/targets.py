"""The teacher's soft targets: how soft they are, and which part of them the student has taken over.

Shapes: ``log_probs`` and ``teacher_log_probs`` (N, K), at T = 1; ``teacher_logits`` (N, K); ``labels`` (N,).
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from kdbench.metrics.confidence import entropies
from kdbench.metrics.divergence import kl_divergences
from kdbench.metrics.registry import metric
from kdbench.metrics.tensors import Undefined, derive, log_probabilities, per_example

ZHAO = "Zhao et al. 2022, arXiv 2203.08679"
soft_target_kl = partial(
    metric, family="fidelity", direction="lower", range="[0, ∞)", unit="nats", source=ZHAO
)


@metric(
    "teacher_entropy_norm",
    title="Entropy of the soft targets, normalised",
    family="fidelity",
    direction="none",
    range="[0, 1]",
    source="Hinton et al. 2015, arXiv 1503.02531",
)
def teacher_entropy_norm(teacher_logits: Tensor, temperature: Tensor) -> float:
    """Return the mean entropy of the soft targets over the largest: mean H(softmax(z_t/T)) / ln K.

    T is the method's temperature, and this explains what it does: 0 is a hard label, 1 the uniform
    distribution. Shapes: (N, K), and T as a scalar. Range [0, 1]. Raises Undefined with fewer than 2 classes
    and ValueError unless T > 0. Source: Hinton et al. 2015.

    >>> from torch import tensor
    >>> round(teacher_entropy_norm(tensor([[0.0, 2 * math.log(3)]]), tensor(2.0)), 6)  # p = 1/4, 3/4
    0.811278
    """
    if not temperature > 0:
        raise ValueError(f"temperature is {float(temperature)}, expected a positive number")
    if teacher_logits.shape[1] < 2:
        raise Undefined("one class has no entropy to normalise by")

    def entropy(rows: Tensor) -> Tensor:
        return entropies(log_probabilities(rows, float(temperature)))

    mean = float(per_example(entropy, teacher_logits).mean())
    return min(1.0, mean / math.log(teacher_logits.shape[1]))


def label_or_other(log_probs: Tensor, labels: Tensor) -> Tensor:
    """Return (N, 2): log p_y and log(1 − p_y), the latter summed over the other classes.

    So it keeps its digits where p_y is near 1. Shapes: (N, K), (N,). Raises Undefined with fewer than 2
    classes.

    >>> from torch import tensor
    >>> label_or_other(tensor([[0.0, -100.0]]).double(), tensor([0])).tolist()
    [[0.0, -100.0]]
    """
    if log_probs.shape[1] < 2:
        raise Undefined("needs more than 1 class")

    def pair(rows: Tensor, targets: Tensor) -> Tensor:
        places = targets[:, None]
        others = rows.scatter(1, places, -math.inf).logsumexp(dim=1, keepdim=True)
        return torch.cat([rows.gather(1, places), others], dim=1)

    return per_example(pair, log_probs, labels)


derive("binary_log_probs", "NB", label_or_other, ("log_probs", "labels"))
derive("teacher_binary_log_probs", "NB", label_or_other, ("teacher_log_probs", "labels"))


@soft_target_kl("kl_target", title="KL of the label's probability")
def kl_target(binary_log_probs: Tensor, teacher_binary_log_probs: Tensor) -> float:
    """Return the mean KL(b_t ‖ b_s) of the distributions b = (p_y, 1 − p_y): is it as sure of the label?

    Of each example KL(p_t ‖ p_s) = KL(b_t ‖ b_s) + (1 − p_y^t)·KL(p̂_t ‖ p̂_s), with p̂ as in `kl_non_target`.
    Shapes: (N, 2), (N, 2), see `label_or_other`. Range [0, ∞), in nats. Raises Undefined with fewer than 2
    classes. Source: Zhao et al. 2022.

    >>> from torch import tensor
    >>> halves, quarter = tensor([[0.5, 0.5]]).double(), tensor([[0.25, 0.75]]).double()
    >>> round(kl_target(quarter.log(), halves.log()), 6)
    0.143841
    """
    return float(kl_divergences(teacher_binary_log_probs, binary_log_probs).mean())


@soft_target_kl("kl_non_target", title="KL among the classes that are not the label")
def kl_non_target(
    log_probs: Tensor,
    teacher_log_probs: Tensor,
    labels: Tensor,
    binary_log_probs: Tensor,
    teacher_binary_log_probs: Tensor,
) -> float:
    """Return the mean KL(p̂_t ‖ p̂_s), where p̂_k = p_k/(1 − p_y) for k ≠ y: what it says of other classes.

    Every example counts alike, however sure the teacher is of the label; see `kl_target` for the whole.
    Shapes: (N, K), (N, K), (N,), and (N, 2) twice, see `label_or_other`. Range [0, ∞), in nats. Raises
    Undefined with fewer than 3 classes: of two, one is left. Source: Zhao et al. 2022.

    >>> from torch import tensor
    >>> labels, student = tensor([0]), tensor([[0.2, 0.2, 0.6]]).log()
    >>> teacher = tensor([[0.98, 0.01, 0.01]]).log()
    >>> binary = [label_or_other(rows, labels) for rows in (student, teacher)]
    >>> round(kl_non_target(student, teacher, labels, *binary), 4)  # of (1/4, 3/4) from (1/2, 1/2)
    0.1438
    """
    if log_probs.shape[1] < 3:
        raise Undefined("needs more than 2 classes")

    def divergence(student: Tensor, teacher: Tensor, targets: Tensor, rest: Tensor, rest_t: Tensor) -> Tensor:
        t = teacher - rest_t[:, 1:]
        terms = (t - student).add_(rest[:, 1:])
        p = t.exp_().scatter_(1, targets[:, None], 0)
        return terms.mul_(p).masked_fill_(p == 0, 0).sum(dim=1).clamp_(min=0)

    divergences = per_example(
        divergence, log_probs, teacher_log_probs, labels, binary_log_probs, teacher_binary_log_probs
    )
    return float(divergences.mean())
