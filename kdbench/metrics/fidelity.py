"""How closely the student follows its teacher, right or wrong (Stanton et al. 2021, arXiv 2106.05945).

Shapes: ``log_probs`` and ``teacher_log_probs`` (N, K), at T = 1; ``predictions``, ``teacher_predictions`` and
``labels`` (N,); ``js_per_example`` (N,), what `js_divergences` returns. Divergences are means over examples,
in nats, without a factor T².

Agreement rises with accuracy by itself. Read it beside `cohen_kappa` and `error_consistency`, which
take away what chance explains.
"""

from __future__ import annotations

import math
from functools import partial

from torch import Tensor

from kdbench.metrics.divergence import js_divergences, kl_divergences
from kdbench.metrics.quality import class_counts, share
from kdbench.metrics.registry import metric
from kdbench.metrics.tensors import Undefined, derive

derive("js_per_example", "N", js_divergences, ("log_probs", "teacher_log_probs"))

STANTON = "Stanton et al. 2021, arXiv 2106.05945"
divergence = partial(metric, family="fidelity", direction="lower", unit="nats")


@metric(
    "agreement",
    title="Agreement",
    family="fidelity",
    direction="higher",
    range="[0, 1]",
    source=STANTON,
    scale="percent",
)
def agreement(predictions: Tensor, teacher_predictions: Tensor) -> float:
    """Return the share of examples for which both predict the same class: mean 1[ŷ_s = ŷ_t].

    Shapes: (N,), (N,). Range [0, 1]. Source: Stanton et al. 2021; Xu et al. 2021 call it label loyalty.

    >>> from torch import tensor
    >>> agreement(tensor([0, 1, 1, 2]), tensor([0, 1, 2, 2]))
    0.75
    """
    return share(predictions == teacher_predictions)


def _beyond_chance(count: int, observed: int, expected: int) -> float:
    """Return κ = (o − e)/(1 − e) for o = observed/count and e = expected/count², from exact integers."""
    return (observed * count - expected) / (count**2 - expected)


@metric(
    "cohen_kappa",
    title="Cohen's κ of the predictions",
    family="fidelity",
    direction="higher",
    range="[-1, 1]",
    source="Cohen 1960; scikit-learn, cohen_kappa_score",
)
def cohen_kappa(predictions: Tensor, teacher_predictions: Tensor) -> float:
    """Return the agreement beyond that of independent predictions with the same class frequencies.

    κ = (o − e)/(1 − e), with o the agreement and e = Σ_k share_s(k)·share_t(k). Shapes: (N,), (N,).
    Range [−1, 1]. Raises Undefined where both predict one and the same class throughout (e = 1).
    Source: Cohen 1960.

    >>> from torch import tensor
    >>> cohen_kappa(tensor([0, 1, 1, 0]), tensor([0, 1, 0, 0]))
    0.5
    """
    by_teacher, by_student, both = class_counts(predictions, teacher_predictions)
    count, expected = len(predictions), int((by_teacher * by_student).sum())
    if expected == count**2:
        raise Undefined("both models predict one and the same class throughout")
    return _beyond_chance(count, int(both.sum()), expected)


@metric(
    "error_consistency",
    title="Error consistency (κ of being right)",
    family="fidelity",
    direction="higher",
    range="[-1, 1]",
    source="Geirhos et al. 2020, arXiv 2006.16736",
)
def error_consistency(predictions: Tensor, teacher_predictions: Tensor, labels: Tensor) -> float:
    """Return how far both are right and wrong on the same examples, beyond what their accuracies explain.

    κ = (o − e)/(1 − e), with o = both_right + both_wrong and e = a_t·a_s + (1 − a_t)(1 − a_s) for
    accuracies a. Shapes: (N,), (N,), (N,). Range [−1, 1]. Raises Undefined where both are right
    everywhere or wrong everywhere (e = 1). Source: Geirhos et al. 2020.

    >>> from torch import tensor
    >>> error_consistency(tensor([0, 0, 1, 1]), tensor([0, 0, 0, 1]), tensor([0, 0, 0, 0]))
    0.5
    """
    count = len(labels)
    right, teacher_right = predictions == labels, teacher_predictions == labels
    s, t = int(right.sum()), int(teacher_right.sum())
    if s == t and s in (0, count):
        raise Undefined(f"both models are {'right' if s else 'wrong'} on every example")
    return _beyond_chance(count, int((right == teacher_right).sum()), s * t + (count - s) * (count - t))


@divergence("kl_teacher_student", title="KL(teacher ‖ student)", range="[0, ∞)", source=STANTON)
def kl_teacher_student(log_probs: Tensor, teacher_log_probs: Tensor) -> float:
    """Return the mean over examples of KL(p_t ‖ p_s) = Σ_k p_t (log p_t − log p_s).

    Shapes: (N, K), (N, K). Range [0, ∞), in nats; large where the student rules out what the teacher
    allows. Source: Stanton et al. 2021.

    >>> from torch import tensor
    >>> halves, quarter = tensor([[0.5, 0.5]]).double(), tensor([[0.25, 0.75]]).double()
    >>> round(kl_teacher_student(quarter.log(), halves.log()), 6)
    0.143841
    """
    return float(kl_divergences(teacher_log_probs, log_probs).mean())


@divergence("kl_student_teacher", title="KL(student ‖ teacher)", range="[0, ∞)", source=STANTON)
def kl_student_teacher(log_probs: Tensor, teacher_log_probs: Tensor) -> float:
    """Return the mean over examples of KL(p_s ‖ p_t) = Σ_k p_s (log p_s − log p_t).

    Shapes: (N, K), (N, K). Range [0, ∞), in nats; large where the student claims what the teacher
    rules out. Source: Stanton et al. 2021.

    >>> from torch import tensor
    >>> halves, sure = tensor([[0.5, 0.5]]).double(), tensor([[1.0, 0.0]]).double()
    >>> round(kl_student_teacher(sure.log(), halves.log()), 6)
    0.693147
    """
    return float(kl_divergences(log_probs, teacher_log_probs).mean())


@divergence("js", title="Jensen–Shannon divergence", range="[0, ln 2]", source="Lin 1991")
def js(js_per_example: Tensor) -> float:
    """Return the mean over examples of ½ KL(p_s ‖ m) + ½ KL(p_t ‖ m), with m = (p_s + p_t)/2.

    Shapes: (N,). Range [0, ln 2], in nats; the same with student and teacher exchanged.
    Source: Lin 1991.

    >>> from torch import tensor
    >>> halves, sure = tensor([[0.5, 0.5]]).double(), tensor([[1.0, 0.0]]).double()
    >>> round(js(js_divergences(sure.log(), halves.log())), 6)
    0.215762
    """
    return float(js_per_example.mean())


@metric(
    "probability_loyalty",
    title="Probability loyalty",
    family="fidelity",
    direction="higher",
    range="[0, 1]",
    source="Xu et al. 2021, arXiv 2109.03228",
)
def probability_loyalty(js_per_example: Tensor) -> float:
    """Return the mean over examples of 1 − √JS, with the Jensen–Shannon divergence in bits (base 2).

    Shapes: (N,), in nats. Range [0, 1]: in base 2 the divergence of distributions without overlap is 1.
    The root is taken for each example, so this is not a function of the mean `js`. Source: Xu et al. 2021.

    >>> from torch import tensor
    >>> halves, sure = tensor([[0.5, 0.5]]).double(), tensor([[1.0, 0.0]]).double()
    >>> round(probability_loyalty(js_divergences(sure.log(), halves.log())), 6)
    0.442077
    """
    bits = js_per_example / math.log(2)
    return float((1 - bits.sqrt()).mean())
