"""Whether student and teacher represent the images alike, beyond what their predictions show.

Shapes: ``features`` (R, D) and ``teacher_features`` (R, E), the pooled features of the same R examples of
the measured split; what the metrics need of them is computed once, by `gram_products`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kdbench.metrics.registry import metric
from kdbench.metrics.tensors import Undefined, derive, row_blocks

# Of the powers of two that float64 holds.
LARGEST_EXPONENT = 1023


@dataclass(frozen=True)
class GramProducts:
    """What CKA needs of two centred matrices X and Y with Gram matrices K = XXᵀ and L = YYᵀ.

    X and Y are each divided by a power of two, which changes no bit of what `cka_pooled` and
    `cka_pooled_debiased` make of them, and without which fourth powers leave the range of float64.

    Attributes:
        norms: tr KK = ‖XᵀX‖², tr LL = ‖YᵀY‖² and tr KL = ‖XᵀY‖² (Frobenius).
        diagonals: (R, 2), the diagonals of K and L.
    """

    norms: dict[str, float]
    diagonals: Tensor


def _scale(rows: Tensor) -> float:
    """Return the power of two that takes the largest entry to between 1 and 2."""
    exponent = math.frexp(float(rows.abs().amax()))[1] - 1
    return math.ldexp(1.0, min(-exponent, LARGEST_EXPONENT))


def _scaled(rows: Tensor, scale: float) -> Tensor:
    return rows.to(torch.float64, copy=True).mul_(scale)


def gram_products(features: Tensor, teacher_features: Tensor) -> GramProducts:
    """Return the products of two feature matrices (R, D) and (R, E), without a Gram matrix (R, R).

    Raises Undefined where the features of one are the same for every example.

    >>> from torch import tensor
    >>> x = tensor([[1.0], [-1.0]])
    >>> gram_products(x, 2 * x).norms
    {'kk': 4.0, 'll': 4.0, 'kl': 4.0}
    """
    for whose, tensor in (("student", features), ("teacher", teacher_features)):
        if bool((tensor.amax(dim=0) == tensor.amin(dim=0)).all()):
            raise Undefined(f"the {whose}'s pooled features are the same for every example")
    pair = (features, teacher_features)
    scales = [_scale(tensor) for tensor in pair]
    means = [_scaled(tensor, scale).mean(dim=0) for tensor, scale in zip(pair, scales, strict=True)]
    widths = [tensor.shape[1] for tensor in pair]
    kinds = {"kk": (0, 0), "ll": (1, 1), "kl": (0, 1)}
    sums = {
        kind: features.new_zeros(widths[i], widths[j], dtype=torch.float64) for kind, (i, j) in kinds.items()
    }
    diagonals = []
    for block in row_blocks(pair[widths[1] > widths[0]]):
        both = [
            _scaled(tensor[block], scale).sub_(mean)
            for tensor, scale, mean in zip(pair, scales, means, strict=True)
        ]
        for kind, (i, j) in kinds.items():
            sums[kind].addmm_(both[i].T, both[j])
        diagonals.append(torch.stack([part.square().sum(dim=1) for part in both], dim=1))
    return GramProducts(
        {kind: float(total.square_().sum()) for kind, total in sums.items()}, torch.cat(diagonals)
    )


derive("feature_products", "", gram_products, ("features", "teacher_features"))


@metric(
    "cka_pooled",
    title="Linear CKA of the pooled features",
    family="features",
    direction="higher",
    range="[0, 1]",
    source="Kornblith et al. 2019, arXiv 1905.00414",
)
def cka_pooled(feature_products: GramProducts) -> float:
    """Return the linear centred kernel alignment: ‖YᵀX‖²_F / (‖XᵀX‖_F ‖YᵀY‖_F), X and Y centred.

    Rotations, shifts and one scale of all features change nothing. Shapes: (R, D), (R, E). Range [0, 1].
    Biased upward unless R is large beside D and E: read `cka_pooled_debiased` there. Raises Undefined where
    the features of one are the same for every example. Source: Kornblith et al. 2019.

    >>> from torch import tensor
    >>> x = tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    >>> pairs = (x, 3 * x.flip(1) + 1), (x[:, :1], x[:, 1:])
    >>> [round(cka_pooled(gram_products(*pair)), 6) for pair in pairs]
    [1.0, 0.0]
    """
    norms = feature_products.norms
    return min(1.0, norms["kl"] / math.sqrt(norms["kk"] * norms["ll"]))


@metric(
    "cka_pooled_debiased",
    title="Linear CKA of the pooled features, debiased",
    family="features",
    direction="higher",
    range="[-1, 1]",
    source="Song et al. 2012; Nguyen et al. 2021, arXiv 2010.15327",
)
def cka_pooled_debiased(feature_products: GramProducts) -> float:
    """Return CKA with the unbiased estimator of HSIC: h(K, L) / √(h(K, K)·h(L, L)).

    h(K, L) = [tr K̃L̃ + (1ᵀK̃1)(1ᵀL̃1)/((R − 1)(R − 2)) − 2·1ᵀK̃L̃1/(R − 2)] / (R(R − 3)), where K̃ and L̃ are
    the Gram matrices with their diagonals set to 0. Independent features give 0 on average however many
    there are, where `cka_pooled` rises as R falls. Shapes: (R, D), (R, E). Range [−1, 1]. Raises Undefined
    with fewer than 4 examples, and where h of one with itself is 0. Source: Song et al. 2012.

    >>> from torch import tensor
    >>> x = tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0], [2.0, 1.0]])
    >>> round(cka_pooled_debiased(gram_products(x, 3 * x.flip(1) + 1)), 6)
    1.0
    """
    if len(feature_products.diagonals) < 4:
        raise Undefined("the unbiased estimate needs at least 4 examples")
    own, theirs = _unbiased(feature_products, "kk", 0, 0), _unbiased(feature_products, "ll", 1, 1)
    for value, kind, whose in ((own, "kk", "student"), (theirs, "ll", "teacher")):
        if value <= 1e-12 * feature_products.norms[kind]:
            raise Undefined(f"the {whose}'s pooled features are all equally far from each other")
    return max(-1.0, min(1.0, _unbiased(feature_products, "kl", 0, 1) / math.sqrt(own * theirs)))


def _unbiased(products: GramProducts, kind: str, i: int, j: int) -> float:
    """Return R(R − 3)·h of two sides, from centred features: their Gram matrices' rows sum to 0.

    So the rows of K̃ sum to −diag K, and h, which no shift of the features changes, needs no Gram matrix.
    """
    of_k, of_l = products.diagonals[:, i], products.diagonals[:, j]
    rows = len(of_k)
    dot = float(of_k @ of_l)
    total = float(of_k.sum()) * float(of_l.sum())
    return (products.norms[kind] - dot) + total / ((rows - 1) * (rows - 2)) - 2 * dot / (rows - 2)
