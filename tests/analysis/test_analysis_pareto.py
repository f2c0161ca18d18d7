from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdbench.analysis.pareto import pareto_front

# Few distinct numbers, so that ties are common.
NUMBER = st.one_of(st.none(), st.integers(0, 4).map(float))
POINTS = st.lists(st.tuples(NUMBER, NUMBER), max_size=12)
DIRECTIONS = st.sampled_from(["higher", "lower"])


def dominates(a, b, gain, price):
    better = (gain * (a[0] - b[0]), price * (b[1] - a[1]))
    return min(better) >= 0 and max(better) > 0


@given(POINTS, DIRECTIONS, DIRECTIONS)
def test_the_front_is_what_no_other_point_dominates(points, value_direction, cost_direction):
    gain = 1 if value_direction == "higher" else -1
    price = 1 if cost_direction == "lower" else -1
    known = [point for point in points if None not in point]
    expected = [
        None not in point and not any(dominates(other, point, gain, price) for other in known)
        for point in points
    ]
    values, costs = [point[0] for point in points], [point[1] for point in points]
    found = pareto_front(values, costs, value_direction=value_direction, cost_direction=cost_direction)
    assert found == expected


def test_equal_points_share_the_front():
    assert pareto_front([0.9, 0.9, 0.8], [1.0, 1.0, 1.0]) == [True, True, False]


def test_lists_of_different_length_are_refused():
    with pytest.raises(ValueError, match=r"shorter|longer"):
        pareto_front([0.9], [1.0, 2.0])


def test_an_axis_without_a_direction_is_refused():
    with pytest.raises(ValueError, match="direction"):
        pareto_front([0.9], [1.0], value_direction="none")
