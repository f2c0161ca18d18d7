"""How alike the logits themselves are, which neither a softmax nor an argmax comes between.

Shapes: ``logits`` and ``teacher_logits`` (N, K).
"""

from __future__ import annotations

import torch
from torch import Tensor

from kdbench.metrics.registry import metric
from kdbench.metrics.tensors import Undefined, per_example, row_blocks


def _centred(rows: Tensor) -> Tensor:
    rows = rows.double()
    # Less the highest first: the mean of a row that lies far from 0 would round away what differs in it.
    rows = rows - rows.amax(dim=1, keepdim=True)
    return rows.sub_(rows.mean(dim=1, keepdim=True))


def _unit(rows: Tensor) -> Tensor:
    # Divided by the largest first, because the sum of squares could leave the range of float64.
    rows /= rows.abs().amax(dim=1, keepdim=True)
    rows /= rows.norm(dim=1, keepdim=True)
    return rows


@metric(
    "logit_mse",
    title="Mean squared difference of the logits",
    family="fidelity",
    direction="lower",
    range="[0, ∞)",
    source="Ba & Caruana 2014, arXiv 1312.6184; Kim et al. 2021, arXiv 2105.08919",
)
def logit_mse(logits: Tensor, teacher_logits: Tensor) -> float:
    """Return the mean over examples and classes of (z̄_s − z̄_t)², where z̄ is z less its mean over the classes.

    Centred, because a constant added to all logits of an example changes no probability. Shapes: (N, K),
    (N, K). Range [0, ∞). Source: Ba & Caruana 2014, without the centring.

    >>> from torch import tensor
    >>> logit_mse(tensor([[1.0, 3.0]]), tensor([[5.0, 3.0]]))
    4.0
    """

    def error(student: Tensor, teacher: Tensor) -> Tensor:
        return (_centred(student) - _centred(teacher)).square_().mean(dim=1)

    return float(per_example(error, logits, teacher_logits).mean())


@metric(
    "logit_correlation",
    title="Correlation of the logits within an example",
    family="fidelity",
    direction="higher",
    range="[-1, 1]",
    source="Huang et al. 2022, arXiv 2205.10536; Sun et al. 2024, arXiv 2403.01427",
)
def logit_correlation(logits: Tensor, teacher_logits: Tensor) -> float:
    """Return the mean over examples of Pearson's correlation of z_s and z_t across the classes.

    It is 1 where the student's logits are the teacher's up to a shift and a positive scale, that is, up to
    a temperature of each example: what `kl_teacher_student` charges to a wrong scale, it forgives. Shapes:
    (N, K), (N, K). Range [−1, 1]. Raises Undefined where the logits of an example are all equal.
    Source: the relation between classes of Huang et al. 2022, of logits as in Sun et al. 2024.

    >>> from torch import tensor
    >>> round(logit_correlation(tensor([[1.0, 2.0, 3.0]]), tensor([[10.0, 20.0, 30.0]])), 9)
    1.0
    """
    for whose, tensor in (("student", logits), ("teacher", teacher_logits)):
        flat = int((tensor.amax(dim=1) == tensor.amin(dim=1)).sum())
        if flat:
            raise Undefined(f"the {whose}'s logits of {flat} of {len(tensor)} examples are all equal")

    def correlation(student: Tensor, teacher: Tensor) -> Tensor:
        s, t = _unit(_centred(student)), _unit(_centred(teacher))
        return s.mul_(t).sum(dim=1).clamp_(-1, 1)

    return float(per_example(correlation, logits, teacher_logits).mean())


def _correlations(logits: Tensor, whose: str) -> Tensor:
    """Return the correlations (K, K) between classes, over the examples, of centred logits."""
    total = logits.new_zeros(logits.shape[1], dtype=torch.float64)
    for block in row_blocks(logits):
        total += _centred(logits[block]).sum(dim=0)
    mean = total / len(logits)
    products = torch.diag(mean).zero_()
    for block in row_blocks(logits):
        rows = _centred(logits[block]) - mean
        products.addmm_(rows.T, rows)
    spread = products.diagonal().sqrt()
    if bool((spread <= 1e-12 * mean.abs().max()).any()):
        raise Undefined(f"a centred logit of the {whose} is the same for every example")
    return products / spread / spread[:, None]


@metric(
    "correlation_gap",
    title="Difference of the correlations between classes",
    family="fidelity",
    direction="lower",
    range="[0, 2]",
    source="Tian et al. 2020, arXiv 1910.10699, Figure 2",
)
def correlation_gap(logits: Tensor, teacher_logits: Tensor) -> float:
    """Return the mean over pairs of different classes of |C_s − C_t|.

    C (K, K) are the correlations over the examples of z less its mean over the classes. Which classes rise
    and fall together is knowledge that labels do not hold; papers show the difference of the two matrices,
    of logits as they are, in a picture. Shapes: (N, K), (N, K). Range [0, 2]. Raises Undefined with fewer
    than 3 classes, of which one follows from the other, and where a class's centred logit is the same for
    every example. Source: Tian et al. 2020.

    >>> from torch import tensor
    >>> student = tensor([[1.0, 1.0, -2.0], [0.0, 0.0, 0.0]])
    >>> teacher = student[:, [0, 2, 1]]  # another pair goes together: (2 + 2 + 0)/3
    >>> round(correlation_gap(student, teacher), 6)
    1.333333
    """
    classes = logits.shape[1]
    if classes < 3:
        raise Undefined("needs more than 2 classes")
    gap = (_correlations(logits, "student") - _correlations(teacher_logits, "teacher")).abs_()
    gap.fill_diagonal_(0)
    return min(2.0, float(gap.sum()) / (classes * (classes - 1)))
