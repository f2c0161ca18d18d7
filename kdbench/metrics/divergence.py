"""Distances between two distributions over the classes, one value an example, from log-probabilities.

Both functions take log-probabilities (N, K) in float64 and return (N,) in nats. A class whose probability
underflows to 0 contributes its limit, 0, never NaN; rounding never takes a value out of its range.
"""

from __future__ import annotations

import math

from torch import Tensor

from kdbench.metrics.tensors import per_example


def kl_divergences(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return KL(p ‖ q) = Σ_k p_k (log p_k − log q_k) of each example: in [0, ∞), 0 where p = q.

    >>> from torch import tensor
    >>> halves, quarter = tensor([[0.5, 0.5]]).double(), tensor([[0.25, 0.75]]).double()
    >>> round(kl_divergences(halves.log(), quarter.log()).item(), 6)  # ln(2/√3)
    0.143841
    """

    def divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
        p = log_p.exp()
        terms = (log_p - log_q).mul_(p).masked_fill_(p == 0, 0)
        return terms.sum(dim=1).clamp_(min=0)

    return per_example(divergence, log_p, log_q)


def js_divergences(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return the Jensen–Shannon divergence of each example: in [0, ln 2], 0 where p = q.

    JS = ½ KL(p ‖ m) + ½ KL(q ‖ m), with m = (p + q)/2. Swapping p and q gives the same bits.

    >>> from torch import tensor
    >>> p = tensor([[0.0, -1e4]]).double()
    >>> js_divergences(p, p.flip(1)).item() == math.log(2)
    True
    """

    def divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
        # With d = log q − log p: log(m/p) = max(d, 0) + c and log(m/q) = max(−d, 0) + c, where c =
        # log((1 + e^−|d|)/2). So m is never formed, and p = q gives exactly 0, where rounding in
        # log m would leave 1e-16, which the square root of a loyalty turns into 1e-8.
        p, q = log_p.exp(), log_q.exp()
        d = log_q - log_p
        c = d.abs().neg_().expm1_().div_(2).log1p_()
        terms = (d.clamp(min=0) + c).mul_(p).masked_fill_(p == 0, 0)
        terms += d.neg_().clamp_(min=0).add_(c).mul_(q).masked_fill_(q == 0, 0)
        return terms.sum(dim=1).mul_(-0.5).clamp_(0, math.log(2))

    return per_example(divergence, log_p, log_q)
