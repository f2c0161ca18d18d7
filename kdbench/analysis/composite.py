"""Value and cost in one number: NetScore, which hides a choice of exponents and so is no headline."""

from __future__ import annotations

import math

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
