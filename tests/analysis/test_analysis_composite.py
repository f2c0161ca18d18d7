from __future__ import annotations

import math

import pytest

from kdbench.analysis.composite import netscore, netscore_of
from kdbench.analysis.intervals import Interval
from kdbench.analysis.rows import Row


def test_netscore_of_resnet50_and_by_its_logarithms():
    found = netscore(0.7613, 25_557_032, 4_089_184_256)
    assert found == pytest.approx(55.1, abs=0.05)
    by_logs = 40 * math.log10(76.13) - 10 * math.log10(25.557032) - 10 * math.log10(4.089184256)
    assert found == pytest.approx(by_logs, rel=1e-12)


def test_netscore_trades_a_tenth_of_the_parameters_for_ten():
    assert netscore(0.7, 1e5, 1e8) - netscore(0.7, 1e6, 1e8) == pytest.approx(10)
    assert netscore(0.7, 1e6, 1e7) - netscore(0.7, 1e6, 1e8) == pytest.approx(10)


@pytest.mark.parametrize("numbers", [(0.0, 1, 1), (0.5, 0, 1), (0.5, 1, 0), (76.1, 1, 1), (math.nan, 1, 1)])
def test_netscore_refuses_what_has_no_logarithm_and_percent(numbers):
    with pytest.raises(ValueError, match="positive numbers"):
        netscore(*numbers)


def row_with(**means: float | None) -> Row:
    metrics = {
        name: Interval(mean=mean, sd=None, low=None, high=None, n=int(mean is not None), reason=None)
        for name, mean in means.items()
    }
    return Row("student", "t", "s", "m", (0,), 0, metrics, {}, {}, (), {})


def test_a_row_without_a_number_has_no_netscore():
    assert netscore_of(row_with(top1=0.7613, params=25_557_032, macs=4_089_184_256)) == pytest.approx(
        55.1, abs=0.05
    )
    assert netscore_of(row_with(top1=0.5, params=1e6, macs=None)) is None
    assert netscore_of(row_with(top1=0.5, params=1e6)) is None
    assert netscore_of(row_with(top1=0.0, params=1e6, macs=1e6)) is None
