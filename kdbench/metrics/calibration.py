"""Whether a confidence of 0.8 is right eight times in ten: reliability bins and what is computed from them.

Shapes as in `kdbench.metrics.tensors`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from kdbench.metrics.ranking import RESOLUTION, ranked
from kdbench.metrics.registry import metric
from kdbench.metrics.tensors import row_blocks

BINS = 15
calibration_error = partial(metric, family="calibration", direction="lower", range="[0, 1]")


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

    Bin m of M holds the confidences in ((m − 1)/M, m/M], so 1 is in the last bin; 0 is in the first. What
    lies above an edge by less than 2^−40 is on it, as the ⅓ of three equal logits that rounding lifts.
    Shapes: confidences (N,) in [0, 1], correct (N,) boolean. Raises ValueError where the shapes
    disagree, a confidence is outside [0, 1], or ``bins`` is under 1. Source: Guo et al. 2017.

    >>> from torch import tensor
    >>> diagram = reliability_bins(tensor([0.3, 0.9, 1.0]), tensor([False, True, True]), bins=2)
    >>> diagram.counts, diagram.accuracy
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
    index = torch.bucketize(confidences, edges[1:-1] + 1 / RESOLUTION)
    counts = torch.bincount(index, minlength=bins).tolist()

    def mean(weights: Tensor) -> tuple[float | None, ...]:
        sums = torch.bincount(index, weights=weights, minlength=bins).tolist()
        return tuple(total / count if count else None for total, count in zip(sums, counts, strict=True))

    return ReliabilityBins(tuple(edges.tolist()), tuple(counts), mean(confidences), mean(correct.double()))


@calibration_error(
    "ece", title="Expected calibration error (15 bins)", source="Guo et al. 2017, arXiv 1706.04599"
)
def ece(log_probs: Tensor, predictions: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """Return the mean gap between confidence and accuracy: Σ_m (n_m/N)·|accuracy_m − confidence_m|.

    The confidence is the highest probability; the bins are those of `reliability_bins`. Shapes:
    (N, K), (N,), (N,). Range [0, 1]. Biased upward where N is small beside the number of bins.
    Source: Guo et al. 2017, arXiv 1706.04599.

    >>> from torch import tensor
    >>> log_probs = tensor([[0.75, 0.25], [0.25, 0.75]]).double().log()
    >>> ece(log_probs, tensor([0, 1]), tensor([0, 0]))
    0.25
    """
    diagram = reliability_bins(log_probs.amax(dim=1).exp(), predictions == labels, bins)
    return sum(count * gap for count, gap in _gaps(diagram)) / len(labels)


def _gaps(bins: ReliabilityBins) -> list[tuple[int, float]]:
    """Return the count and the gap between accuracy and confidence of each bin that is not empty."""
    return [
        (count, abs(accuracy - confidence))
        for count, confidence, accuracy in zip(bins.counts, bins.confidence, bins.accuracy, strict=True)
        if accuracy is not None and confidence is not None
    ]


@calibration_error(
    "mce",
    title="Maximum calibration error (15 bins)",
    source="Naeini et al. 2015; Guo et al. 2017, arXiv 1706.04599",
)
def mce(log_probs: Tensor, predictions: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """Return the largest gap between confidence and accuracy: max_m |accuracy_m − confidence_m|.

    Bins and confidence are those of `ece`; empty bins are left out. One bin with a single example can
    decide it: read it with the counts of the reliability diagram. Shapes: (N, K), (N,), (N,). Range
    [0, 1]. Source: Naeini et al. 2015.

    >>> from torch import tensor
    >>> log_probs = tensor([[0.75, 0.25], [0.25, 0.75], [0.5, 0.5]]).double().log()
    >>> mce(log_probs, tensor([0, 1, 0]), tensor([0, 1, 1]))
    0.5
    """
    return max(
        gap for _, gap in _gaps(reliability_bins(log_probs.amax(1).exp(), predictions == labels, bins))
    )


@calibration_error(
    "ece_adaptive",
    title="Expected calibration error (15 bins of equal mass)",
    source="Nguyen & O'Connor 2015; Nixon et al. 2019, arXiv 1904.01685",
)
def ece_adaptive(log_probs: Tensor, predictions: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """Return the mean gap between confidence and accuracy in bins of equal mass.

    Σ_m (n_m/N)·|accuracy_m − confidence_m|. The examples, ordered by confidence, are cut into 15 bins whose
    counts differ by one at most, the larger first; equal confidences share their accuracy (see
    `kdbench.metrics.ranking`). Confident models, which leave most bins of equal width nearly empty, are
    resolved where their examples are. Shapes: (N, K), (N,), (N,). Range [0, 1]. Biased upward where N is
    small beside the number of bins. Source: Nixon et al. 2019, the adaptive error of the highest probability.

    >>> from torch import tensor
    >>> log_probs = tensor([[0.75, 0.25], [0.25, 0.75]]).double().log()
    >>> ece_adaptive(log_probs, tensor([0, 1]), tensor([0, 0]), bins=1)
    0.25
    """
    ranking = ranked(log_probs, predictions, labels)
    gaps = (ranking.correct - ranking.confidence).flip(0).tensor_split(bins)
    return sum(abs(float(gap.sum())) for gap in gaps) / len(labels)


@calibration_error(
    "classwise_ece",
    title="Classwise expected calibration error (15 bins)",
    source="Kull et al. 2019, arXiv 1910.12656",
)
def classwise_ece(log_probs: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """Return the calibration error of every class's probability, averaged over the classes.

    (1/K) Σ_k Σ_m (n_mk/N)·|share_mk(y = k) − mean_mk(p_k)|. All K probabilities of an example count, not the
    highest alone; the bins are those of `reliability_bins`. Shapes: (N, K), (N,). Range [0, 1]; small where K
    is large, because most probabilities are near 0. Source: Kull et al. 2019.

    >>> from torch import tensor
    >>> classwise_ece(tensor([[0.75, 0.25], [0.75, 0.25]]).double().log(), tensor([0, 0]))
    0.25
    """
    count, classes = log_probs.shape
    edges = torch.arange(1, bins, dtype=torch.float64, device=log_probs.device) / bins + 1 / RESOLUTION
    # n·(share − mean) is a sum of 1[y = k] − p_k, so the counts of the bins are not needed.
    gaps = torch.zeros(classes, bins, dtype=torch.float64, device=log_probs.device)
    for block in row_blocks(log_probs):
        p, own = log_probs[block].exp(), labels[block]
        difference = p.neg()
        difference[torch.arange(len(own), device=own.device), own] += 1
        # Probabilities sum to 1: fewer than ``bins`` of a row lie above the first bin, whose sum is the rest.
        above = p > edges[0] if bins > 1 else torch.zeros_like(p, dtype=torch.bool)
        rows, columns = above.nonzero(as_tuple=True)
        place = columns * bins + torch.bucketize(p[rows, columns], edges)
        gaps.view(-1).index_add_(0, place, difference[rows, columns])
        gaps[:, 0] += difference.masked_fill_(above, 0).sum(dim=0)
    return float(gaps.abs().sum()) / (count * classes)
