"""Whether a confidence of 0.8 is right eight times in ten: reliability bins and what is computed from them.

Shapes as in `kdbench.metrics.tensors`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kdbench.metrics.registry import metric

BINS = 15


@dataclass(frozen=True)
class ReliabilityBins:
    """Confidence against accuracy in bins of equal width: the data of a reliability diagram.

    ``edges`` has one entry more than the others. ``confidence`` and ``accuracy`` are means over the
    examples of a bin, None where the bin is empty.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    confidence: tuple[float | None, ...]
    accuracy: tuple[float | None, ...]


def reliability_bins(confidences: Tensor, correct: Tensor, bins: int = BINS) -> ReliabilityBins:
    """Return the count, mean confidence and accuracy of each of ``bins`` bins of equal width on [0, 1].

    Bin m of M holds the confidences in ((m − 1)/M, m/M], so 1 is in the last bin; 0 is in the first.
    Shapes: confidences (N,) in [0, 1], correct (N,) boolean. Raises ValueError where the shapes
    disagree, a confidence is outside [0, 1], or ``bins`` is under 1. Source: Guo et al. 2017.

    >>> from torch import tensor
    >>> found = reliability_bins(tensor([0.3, 0.9, 1.0]), tensor([False, True, True]), bins=2)
    >>> found.counts, found.accuracy
    ((1, 2), (0.0, 1.0))
    """
    if confidences.shape != correct.shape or confidences.ndim != 1:
        shapes = f"{tuple(confidences.shape)} and {tuple(correct.shape)}"
        raise ValueError(f"confidences and correct have shapes {shapes}, expected (N,) twice")
    if bins < 1:
        raise ValueError(f"bins is {bins}, expected at least 1")
    # On the CPU, because a weighted bincount on a GPU adds in an order that changes from run to run.
    confidences, correct = confidences.double().cpu(), correct.cpu()
    if not bool(((confidences >= 0) & (confidences <= 1)).all()):
        raise ValueError("a confidence is outside [0, 1]")
    edges = torch.arange(bins + 1, dtype=torch.float64) / bins
    index = torch.bucketize(confidences, edges[1:-1])
    counts = torch.bincount(index, minlength=bins).tolist()

    def mean(weights: Tensor) -> tuple[float | None, ...]:
        sums = torch.bincount(index, weights=weights, minlength=bins).tolist()
        return tuple(total / count if count else None for total, count in zip(sums, counts, strict=True))

    return ReliabilityBins(tuple(edges.tolist()), tuple(counts), mean(confidences), mean(correct.double()))


@metric(
    "ece",
    title="Expected calibration error (15 bins)",
    family="calibration",
    direction="lower",
    range="[0, 1]",
    source="Guo et al. 2017, arXiv 1706.04599",
)
def ece(log_probs: Tensor, predictions: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """Return the mean gap between confidence and accuracy: Σ_m (n_m/N)·|accuracy_m − confidence_m|.

    The confidence is the highest probability; the bins are those of `reliability_bins`. Shapes:
    (N, K), (N,), (N,). Range [0, 1]. Biased upward where N is small beside the number of bins.
    Raises ValueError where shapes disagree and Undefined where there are no examples.
    Source: Guo et al. 2017, arXiv 1706.04599.

    >>> from torch import tensor
    >>> log_probs = tensor([[0.75, 0.25], [0.25, 0.75]]).double().log()
    >>> ece(log_probs, tensor([0, 1]), tensor([0, 0]))
    0.25
    """
    found = reliability_bins(log_probs.amax(dim=1).exp(), predictions == labels, bins)
    gaps = (
        count * abs(accuracy - confidence)
        for count, confidence, accuracy in zip(found.counts, found.confidence, found.accuracy, strict=True)
        if accuracy is not None and confidence is not None
    )
    return sum(gaps) / len(labels)
