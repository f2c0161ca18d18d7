"""How sure the predictions are, on average: the first things that distillation and temperature change.

Shapes as in `kdbench.metrics.tensors`.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from kdbench.metrics.quality import share
from kdbench.metrics.registry import metric
from kdbench.metrics.tensors import per_example

certainty = partial(metric, family="calibration", direction="none")


@certainty(
    "confidence_mean",
    title="Mean confidence",
    range="[0, 1]",
    source="Hendrycks & Gimpel 2017, arXiv 1610.02136",
)
def confidence_mean(log_probs: Tensor) -> float:
    """Return the mean of the highest probability: mean max_k p_k.

    Shapes: (N, K). Range [1/K, 1]. Source: Hendrycks & Gimpel 2017.

    >>> from torch import tensor
    >>> confidence_mean(tensor([[0.75, 0.25], [0.5, 0.5]]).double().log())
    0.625
    """
    return float(log_probs.amax(dim=1).exp().mean())


@certainty(
    "overconfidence",
    title="Overconfidence (mean confidence − accuracy)",
    range="[-1, 1]",
    source="Bai et al. 2021, arXiv 2102.07856",
)
def overconfidence(log_probs: Tensor, predictions: Tensor, labels: Tensor) -> float:
    """Return the mean confidence less the accuracy: mean max_k p_k − mean 1[ŷ = y].

    Above 0 the model is too sure, under 0 not sure enough; 0 is best, though gaps of opposite sign cancel,
    which `ece` does not let them. Its size is at most that of `ece`. Shapes: (N, K), (N,), (N,). Range
    [−1, 1]. Source: Bai et al. 2021.

    >>> from torch import tensor
    >>> overconfidence(tensor([[0.75, 0.25], [0.25, 0.75]]).double().log(), tensor([0, 1]), tensor([0, 0]))
    0.25
    """
    return confidence_mean(log_probs) - share(predictions == labels)


@certainty(
    "entropy_mean",
    title="Mean entropy of the predictions",
    range="[0, ∞)",
    unit="nats",
    source="Shannon 1948",
)
def entropy_mean(log_probs: Tensor) -> float:
    """Return the mean entropy of the predicted distribution: −mean Σ_k p_k log p_k.

    Shapes: (N, K). Range [0, ln K], in nats. Source: Shannon 1948.

    >>> from torch import tensor
    >>> round(entropy_mean(tensor([[0.5, 0.5], [1.0, 0.0]]).double().log()), 6)  # ½ ln 2
    0.346574
    """
    return float(entropies(log_probs).mean())


def entropies(log_probs: Tensor) -> Tensor:
    """Return the entropy (N,) of each row (N, K) of log-probabilities, in nats; 0·log 0 is 0."""

    def entropy(rows: Tensor) -> Tensor:
        p = rows.exp()
        return -(rows * p).masked_fill_(p == 0, 0).sum(dim=1)

    return per_example(entropy, log_probs)
