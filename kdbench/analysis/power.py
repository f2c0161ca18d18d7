"""What a run could have shown: the smallest difference that a paired t test finds with a given power."""

from __future__ import annotations

from functools import cache

from scipy import optimize, stats

POWER = 0.8


def detectable_difference(sd: float, n: int, alpha: float, power: float = POWER) -> float:
    """Return the smallest mean difference that a two-sided paired t test over n ≥ 2 pairs finds.

    ``sd`` is the standard deviation of the differences. With t* the critical value at ``alpha`` it is the δ
    for which P(F > t*²) = power, F being the non-central F distribution of T², with 1 and n − 1 degrees of
    freedom and non-centrality n·(δ/sd)². As ``sd`` comes from the same few pairs it is itself uncertain.
    Source: Cohen, Statistical Power Analysis for the Behavioral Sciences, 1988, chapter 2.

    >>> round(detectable_difference(sd=1.0, n=3, alpha=0.05), 2)
    3.26
    """
    return sd * _detectable_effect(n, alpha, power)


@cache
def _detectable_effect(n: int, alpha: float, power: float) -> float:
    """Return δ/sd; comparisons of one run share it."""
    critical = float(stats.t.ppf(1 - alpha / 2, n - 1)) ** 2

    def excess(effect: float) -> float:
        return float(stats.ncf.sf(critical, 1, n - 1, n * effect**2)) - power

    highest = 1.0
    while excess(highest) < 0:
        highest *= 2
    # no lower than this: the distribution of scipy has no value where the non-centrality is zero
    return float(optimize.brentq(excess, 1e-3, highest))
