"""Trade-offs: which models no other model beats in value and cost at once."""

from __future__ import annotations

from collections.abc import Sequence

from kdbench.column import Direction


def pareto_front(
    values: Sequence[float | None],
    costs: Sequence[float | None],
    *,
    value_direction: Direction = "higher",
    cost_direction: Direction = "lower",
) -> list[bool]:
    """Return for each point whether it is non-dominated; a point that lacks a number is never on the front.

    A point is dominated by another that is at least as good in both and better in one; equal points share
    the front. O(n log n). Raises ValueError where the lengths differ or a direction is 'none'.
    """
    if "none" in (value_direction, cost_direction):
        raise ValueError("a Pareto front needs a direction, 'higher' or 'lower', on both axes")
    gain = 1.0 if value_direction == "higher" else -1.0
    price = 1.0 if cost_direction == "lower" else -1.0
    points = [
        (price * cost, -gain * value, index)
        for index, (value, cost) in enumerate(zip(values, costs, strict=True))
        if value is not None and cost is not None
    ]
    front = [False] * len(values)
    best: tuple[float, float] | None = None
    # Cheapest first, and of equally cheap ones the best first: a point stays if it betters all before it.
    for cost, loss, index in sorted(points):
        if best is None or loss < best[1]:
            best = (cost, loss)
            front[index] = True
        else:
            front[index] = (cost, loss) == best
    return front
