"""Value and cost in one number: NetScore of a model, and the hypervolume of a set of models.

Each hides a choice (exponents, a reference point), so neither is a headline; both are for comparison with
work that reports them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from kdbench.analysis.rows import Row


def netscore(top1: float, params: float, macs: float) -> float:
    """Return Ω = 20·log₁₀(a² / (√p·√m)), higher is better (Wong, 2018, arXiv 1806.05512).

    a is the top-1 accuracy in percent, p the parameters in millions, m the multiply-adds in G. State the
    units with the figure: a factor of 1000 in p or m shifts Ω by 30.

    Args:
        top1: as a proportion in (0, 1].
        params: parameters, not in millions.
        macs: multiply-adds of one example, not in G.

    Raises ValueError for a number that is not positive, and for ``top1`` above 1.

    >>> round(netscore(0.7613, 25_557_032, 4_089_184_256), 1)  # ResNet-50 of torchvision
    55.1
    """
    if not 0 < top1 <= 1 or params <= 0 or macs <= 0:
        raise ValueError(f"NetScore needs positive numbers and top1 up to 1, not {top1}, {params}, {macs}")
    return 20 * math.log10((100 * top1) ** 2 / math.sqrt(params / 1e6 * macs / 1e9))


def netscore_of(row: Row) -> float | None:
    """Return the NetScore of a row by its means, or None where accuracy, size or MACs are not positive.

    MACs that are a lower bound give none.
    """
    top1, params, macs = row.mean("top1"), row.mean("params"), row.fact("macs")
    return netscore(top1, params, macs) if top1 and params and macs else None


def hypervolume(
    values: Sequence[float | None], costs: Sequence[float | None], *, value: float, cost: float
) -> float:
    """Return the area that a set of points dominates, up to a reference point, over log₁₀ of the cost.

    The area of all (v, log₁₀ c) with ``value`` ≤ v and c ≤ ``cost`` that some point is at least as good as:
    higher in value and lower in cost; its unit is that of the values times decades of cost (Zitzler and
    Thiele, 1999). A point that lacks a number, or is not better than the reference in both, adds nothing.
    The figure depends on the reference point, so state both.

    Raises ValueError for a cost that is not positive, and where the lengths differ.

    >>> hypervolume([0.5, 0.8], [10.0, 100.0], value=0.0, cost=1000.0)  # 1.0 decades to 0.8, 1 more to 0.5
    1.3
    """
    if any(price is not None and price <= 0 for price in (cost, *costs)):
        raise ValueError("a hypervolume over log costs needs costs above zero")
    points = sorted(
        (math.log10(price), gain)
        for gain, price in zip(values, costs, strict=True)
        if gain is not None and price is not None and gain > value and price < cost
    )
    area, best = 0.0, value
    # From the cheapest on, what a point adds is the strip above the best before it, up to the reference.
    for price, gain in points:
        if gain > best:
            area += (gain - best) * (math.log10(cost) - price)
            best = gain
    return area
