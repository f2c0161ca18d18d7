"""Calibration after temperature scaling: what is left once one number, fitted on validation, has been mended.

A distilled student often differs from its teacher in nothing but the scale of its logits. Scaling changes no
prediction; it asks what calibration the model could have had for free. Shapes as in
`kdbench.metrics.tensors`. Every metric raises Undefined where there is no validation split, or no temperature
that is best (see `fit_temperature`).
"""

from __future__ import annotations

import math
from functools import cache, partial

from scipy.optimize import brentq
from torch import Tensor

from kdbench.metrics.calibration import BINS, classwise_ece, ece, ece_adaptive, mce
from kdbench.metrics.quality import nll
from kdbench.metrics.registry import metric
from kdbench.metrics.tensors import Undefined, derive, log_probabilities, per_example

GUO = "Guo et al. 2017, arXiv 1706.04599"
# Temperatures are looked at up to so many times the mean spread of the logits: there all classes are as
# likely to a thousandth, and the NLL is so flat that rounding comes to decide where its minimum is.
FLATTEST = 2.0**10
after_scaling = partial(metric, family="calibration", direction="lower", range="[0, 1]", source=GUO)


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the temperature that minimises the NLL of softmax(z/T): the root of its slope.

    In β = 1/T the NLL is convex and its slope mean(Σ_k p_k z_k − z_y), with p = softmax(βz), rises: the root
    is bracketed by doubling or halving T from 1, then found by Brent's method. Shapes: (V, K), (V,).
    Raises Undefined where every label has the highest logit, so that the NLL has no minimum above T = 0, and
    where labels have on average hardly higher logits than other classes, so that it has none below 2^10 times
    the mean spread (highest less lowest logit of a row), or none at all.

    >>> from torch import tensor
    >>> logits = tensor([[3.0, 0.0]] * 4)  # right three times of four: p = 3/4 at z/T = ln 3
    >>> round(fit_temperature(logits, tensor([0, 0, 0, 1])) * math.log(3), 9)
    3.0
    """

    @cache
    def slope(log_temperature: float) -> float:
        beta = math.exp(-log_temperature)

        def excess(rows: Tensor, targets: Tensor) -> Tensor:
            z = rows.double()
            z = z - z.amax(dim=1, keepdim=True)
            mean = (z * beta).softmax(dim=1).mul_(z).sum(dim=1)
            return mean - z.gather(1, targets[:, None])[:, 0]

        return float(per_example(excess, logits, labels).mean())

    if not math.isfinite(slope(0.0)):
        raise Undefined("the validation logits are too large for a temperature to be fitted")
    if bool((logits.gather(1, labels[:, None])[:, 0] == logits.amax(dim=1)).all()):
        raise Undefined("no temperature is best: on validation, every label has the highest logit")
    if slope(math.log(FLATTEST * _mean_spread(logits))) >= 0:
        raise Undefined(
            "no temperature is best: on validation, labels have hardly higher logits than other classes"
        )
    # The slope falls as T rises: above 0 the model is too sure, and T must grow.
    too_sure = slope(0.0) > 0
    step = math.log(2) if too_sure else -math.log(2)
    low = high = 0.0
    while (slope(high) > 0) == too_sure:
        low, high = high, high + step
    return math.exp(brentq(slope, low, high, xtol=1e-12))


def _mean_spread(logits: Tensor) -> float:
    return float(per_example(lambda rows: rows.amax(1).double() - rows.amin(1), logits).mean())


derive("fitted", "", fit_temperature, ("validation_logits", "validation_labels"))
derive("scaled_log_probs", "NK", log_probabilities, ("logits", "fitted"))


@after_scaling(
    "temperature_fitted", title="Temperature fitted on validation", direction="none", range="(0, ∞)"
)
def temperature_fitted(fitted: float) -> float:
    """Return the temperature that minimises the NLL on validation: argmin_T −mean log softmax(z/T)_y.

    Above 1 the model is too sure, under 1 not sure enough. See `fit_temperature`. Shapes: (V, K), (V,).
    Range (0, ∞). Raises Undefined where no temperature is best, as where all of validation is right.
    Source: Guo et al. 2017.

    >>> from torch import tensor
    >>> logits = tensor([[math.log(9), 0.0]] * 4)  # says 9/10, is right three times of four
    >>> round(temperature_fitted(fit_temperature(logits, tensor([0, 0, 0, 1]))), 6)
    2.0
    """
    return fitted


@after_scaling("nll_scaled", title="Negative log-likelihood, temperature-scaled", range="[0, ∞)", unit="nats")
def nll_scaled(scaled_log_probs: Tensor, labels: Tensor) -> float:
    """Return `nll` of softmax(z/T) with T = `temperature_fitted`.

    Shapes: (N, K), (N,). Range [0, ∞), in nats. Raises Undefined where T has no value.
    Source: Guo et al. 2017.

    >>> from torch import tensor
    >>> nll_scaled(log_probabilities(tensor([[2.0, 0.0]]), 1e9), tensor([0])) - math.log(2) < 1e-8
    True
    """
    return nll(scaled_log_probs, labels)


@after_scaling("ece_scaled", title="Expected calibration error, temperature-scaled (15 bins)")
def ece_scaled(scaled_log_probs: Tensor, predictions: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """Return `ece` of softmax(z/T) with T = `temperature_fitted`.

    Shapes: (N, K), (N,), (N,). Range [0, 1]. Raises Undefined where T has no value. Source: Guo et al. 2017.

    >>> from torch import tensor
    >>> scaled = log_probabilities(tensor([[math.log(9), 0.0]] * 4), 2.0)
    >>> round(ece_scaled(scaled, tensor([0] * 4), tensor([0, 0, 0, 1])), 6)
    0.0
    """
    return ece(scaled_log_probs, predictions, labels, bins)


@after_scaling("mce_scaled", title="Maximum calibration error, temperature-scaled (15 bins)")
def mce_scaled(scaled_log_probs: Tensor, predictions: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """Return `mce` of softmax(z/T) with T = `temperature_fitted`.

    Shapes: (N, K), (N,), (N,). Range [0, 1]. Raises Undefined where T has no value. Source: Guo et al. 2017.

    >>> from torch import tensor
    >>> scaled = log_probabilities(tensor([[math.log(9), 0.0]] * 2), 2.0)
    >>> round(mce_scaled(scaled, tensor([0] * 2), tensor([0, 0])), 6)
    0.25
    """
    return mce(scaled_log_probs, predictions, labels, bins)


@after_scaling(
    "ece_adaptive_scaled",
    title="Expected calibration error, temperature-scaled (15 bins of equal mass)",
    source="Nixon et al. 2019, arXiv 1904.01685; Guo et al. 2017",
)
def ece_adaptive_scaled(
    scaled_log_probs: Tensor, predictions: Tensor, labels: Tensor, bins: int = BINS
) -> float:
    """Return `ece_adaptive` of softmax(z/T) with T = `temperature_fitted`.

    Shapes: (N, K), (N,), (N,). Range [0, 1]. Raises Undefined where T has no value.
    Source: Nixon et al. 2019.

    >>> from torch import tensor
    >>> scaled = log_probabilities(tensor([[math.log(9), 0.0]] * 4), 2.0)
    >>> round(ece_adaptive_scaled(scaled, tensor([0] * 4), tensor([0, 0, 0, 1])), 6)
    0.0
    """
    return ece_adaptive(scaled_log_probs, predictions, labels, bins)


@after_scaling(
    "classwise_ece_scaled",
    title="Classwise expected calibration error, temperature-scaled (15 bins)",
    source="Kull et al. 2019, arXiv 1910.12656; Guo et al. 2017",
)
def classwise_ece_scaled(scaled_log_probs: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """Return `classwise_ece` of softmax(z/T) with T = `temperature_fitted`.

    Shapes: (N, K), (N,). Range [0, 1]. Raises Undefined where T has no value. Source: Kull et al. 2019.

    >>> from torch import tensor
    >>> scaled = log_probabilities(tensor([[math.log(9), 0.0]] * 4), 2.0)
    >>> round(classwise_ece_scaled(scaled, tensor([0, 0, 0, 1])), 6)
    0.0
    """
    return classwise_ece(scaled_log_probs, labels, bins)
