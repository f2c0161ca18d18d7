"""Why two counts of the same forward pass differ: which operators one of them has and the other has not.

fvcore sees the operators that a model calls, torch's counter those that they are made of: a linear layer is
an ``addmm`` there, a recurrent layer the matrix products of its steps. So kinds of operators are compared.
"""

from __future__ import annotations

from collections.abc import Mapping

CONVOLUTION, ATTENTION, PRODUCT = "convolution", "attention", "matrix product"


def describe_difference(here: Mapping[str, int], torch: Mapping[str, int]) -> str | None:
    """Return a sentence that names the operators by which two counts differ, or None for equal totals.

    ``here`` and ``torch`` are multiply-adds by operator.

    >>> describe_difference({"conv": 90, "dot": 10}, {"convolution": 90})
    "torch's own counter gives 90 multiply-adds, 10.00 % fewer: matrix product 10 here (dot), 0 there"
    """
    ours, theirs = sum(here.values()), sum(torch.values())
    if ours == theirs:
        return None
    share = f", {abs(theirs - ours) / ours:.2%} {'more' if theirs > ours else 'fewer'}" if ours else ""
    parts = []
    for kind in (CONVOLUTION, ATTENTION, PRODUCT):
        mine, other = _of_kind(here, kind), _of_kind(torch, kind)
        if sum(mine.values()) != sum(other.values()):
            parts.append(f"{kind} {_text(mine)} here{_names(mine)}, {_text(other)} there{_names(other)}")
    return f"torch's own counter gives {theirs:,} multiply-adds{share.replace('%', ' %')}: {'; '.join(parts)}"


def _of_kind(counts: Mapping[str, int], kind: str) -> dict[str, int]:
    return {name: value for name, value in counts.items() if _kind(name) == kind}


def _kind(operator: str) -> str:
    if "conv" in operator:
        return CONVOLUTION
    return ATTENTION if "attention" in operator else PRODUCT


def _text(counts: Mapping[str, int]) -> str:
    return f"{sum(counts.values()):,}"


def _names(counts: Mapping[str, int]) -> str:
    return f" ({', '.join(sorted(counts))})" if counts else ""
