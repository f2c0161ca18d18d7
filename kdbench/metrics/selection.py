"""Selective prediction: if a model may abstain where it is least sure, how good is what is left?

The confidence is the highest probability; equal confidences are in random order, and values are expectations
over it (see `kdbench.metrics.ranking`). Shapes: ``log_probs`` (N, K), ``predictions`` and ``labels`` (N,).
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from kdbench.metrics.ranking import ranked
from kdbench.metrics.registry import metric
from kdbench.metrics.tensors import Undefined

GEIFMAN = "Geifman et al. 2019, arXiv 1805.08206"
EL_YANIV = "El-Yaniv & Wiener 2010; Geifman & El-Yaniv 2017, arXiv 1705.08500"
selective = partial(metric, family="selection", range="[0, 1]")


def _area(errors: Tensor) -> float:
    """Return the mean, over i, of the error rate among the first i examples."""
    kept = torch.arange(1, len(errors) + 1, dtype=torch.float64)
    return float((errors.cumsum(0) / kept).mean())


@selective("aurc", title="Area under the risk-coverage curve", direction="lower", source=GEIFMAN)
def aurc(log_probs: Tensor, predictions: Tensor, labels: Tensor) -> float:
    """Return the mean selective risk over coverage: (1/N) Σ_i (errors among the i most confident)/i.

    It falls with the error rate as with the quality of the ranking: `e_aurc` is the part of the ranking.
    Shapes: (N, K), (N,), (N,). Range [0, 1]. Source: Geifman et al. 2019.

    >>> from torch import tensor
    >>> log_probs = tensor([[0.9, 0.1], [0.6, 0.4]]).double().log()
    >>> aurc(log_probs, tensor([0, 0]), tensor([0, 1]))  # no error at half, one of two at full coverage
    0.25
    """
    return _area(1 - ranked(log_probs, predictions, labels).correct)


@selective("e_aurc", title="Excess area under the risk-coverage curve", direction="lower", source=GEIFMAN)
def e_aurc(log_probs: Tensor, predictions: Tensor, labels: Tensor) -> float:
    """Return `aurc` less that of the best order, in which every error is less confident than what is right.

    The best order's is the exact sum (1/N) Σ_i max(0, i − right)/i; Geifman et al. give its limit for
    large N, r + (1 − r) ln(1 − r) at error rate r. Shapes: (N, K), (N,), (N,). Range [0, 1]; 0 where the
    order is perfect. Source: Geifman et al. 2019.

    >>> from torch import tensor
    >>> log_probs = tensor([[0.9, 0.1], [0.6, 0.4]]).double().log()
    >>> e_aurc(log_probs, tensor([0, 0]), tensor([0, 1])), e_aurc(log_probs, tensor([0, 0]), tensor([1, 0]))
    (0.0, 0.5)
    """
    errors = 1 - ranked(log_probs, predictions, labels).correct
    wrong = int((predictions != labels).sum())
    best = (torch.arange(len(errors)) >= len(errors) - wrong).double()
    return max(0.0, _area(errors) - _area(best))


def _accuracy_at(tenths: int, log_probs: Tensor, predictions: Tensor, labels: Tensor) -> float:
    correct = ranked(log_probs, predictions, labels).correct
    kept = -(-tenths * len(correct) // 10)
    return float(correct[:kept].mean())


@selective(
    "accuracy_at_80_coverage",
    title="Accuracy on the 80 % most confident",
    direction="higher",
    source=EL_YANIV,
)
def accuracy_at_80_coverage(log_probs: Tensor, predictions: Tensor, labels: Tensor) -> float:
    """Return the accuracy on the ⌈0.8·N⌉ most confident examples: 1 − selective risk at 80 % coverage.

    Shapes: (N, K), (N,), (N,). Range [0, 1]. Source: El-Yaniv & Wiener 2010.

    >>> from torch import tensor
    >>> log_probs = tensor([[0.9, 0.1]] * 4 + [[0.6, 0.4]]).double().log()
    >>> accuracy_at_80_coverage(log_probs, tensor([0] * 5), tensor([0, 0, 0, 0, 1]))
    1.0
    """
    return _accuracy_at(8, log_probs, predictions, labels)


@selective(
    "accuracy_at_90_coverage",
    title="Accuracy on the 90 % most confident",
    direction="higher",
    source=EL_YANIV,
)
def accuracy_at_90_coverage(log_probs: Tensor, predictions: Tensor, labels: Tensor) -> float:
    """Return the accuracy on the ⌈0.9·N⌉ most confident examples: 1 − selective risk at 90 % coverage.

    Shapes: (N, K), (N,), (N,). Range [0, 1]. Source: El-Yaniv & Wiener 2010.

    >>> from torch import tensor
    >>> log_probs = tensor([[0.9, 0.1]] * 4 + [[0.6, 0.4]]).double().log()
    >>> accuracy_at_90_coverage(log_probs, tensor([0] * 5), tensor([0, 0, 0, 0, 1]))  # five of five are kept
    0.8
    """
    return _accuracy_at(9, log_probs, predictions, labels)


@selective(
    "error_auroc",
    title="AUROC of confidence as a detector of errors",
    direction="higher",
    source="Hendrycks & Gimpel 2017, arXiv 1610.02136; scikit-learn, roc_auc_score",
)
def error_auroc(log_probs: Tensor, predictions: Tensor, labels: Tensor) -> float:
    """Return how often a right prediction is more confident than a wrong one.

    P(c_right > c_wrong) + ½ P(c_right = c_wrong), over all pairs. ½ is a confidence that knows nothing of its
    errors. Compare models of like accuracy only: each is measured on its own errors. Shapes: (N, K), (N,),
    (N,). Range [0, 1]. Raises Undefined where every prediction is right, or every one wrong. Source:
    Hendrycks & Gimpel 2017.

    >>> from torch import tensor
    >>> log_probs = tensor([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2]]).double().log()
    >>> error_auroc(log_probs, tensor([0, 0, 0]), tensor([0, 0, 1]))
    0.5
    """
    ranking = ranked(log_probs, predictions, labels)
    wrong = ranking.counts - ranking.right
    errors, successes = int(wrong.sum()), int(ranking.right.sum())
    if not errors or not successes:
        raise Undefined(f"every prediction is {'right' if successes else 'wrong'}")
    # Twice the pairs, so that a tie counts one: integers, and so exact.
    less_sure = errors - wrong.cumsum(0)
    return int((ranking.right * (2 * less_sure + wrong)).sum()) / (2 * errors * successes)
