from __future__ import annotations

import pytest

from kdbench.column import Column
from kdbench.report import numerals


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("top1", 0.9316, "93.2"),
        ("top1_best_val", 0.9316, "93.2"),
        ("generalization_gap", -0.012, "−1.2"),
        ("params", 278_324, "278 k"),
        ("macs", 40.82e6, "40.8 M"),
        ("macs", 999_600, "1.00 M"),
        ("params", 84, "84"),
        ("size_bytes", 1_115_000, "1.11 MB"),
        ("size_bytes", 512, "512 B"),
        ("latency_cpu_b1_p50_ms", 0.020123, "0.0201"),
        ("latency_cpu_b1_p50_ms", 0.9996, "1.00"),
        ("latency_cpu_b1_p50_ms", 12345.6, "12346"),
        ("throughput_cpu_b1_per_s", 49_700.0, "49.7 k"),
        ("speedup_cpu_b1", 11.37, "11.4×"),
        ("ece", 0.0305, "0.030"),
        ("ece", None, "–"),
        ("params_nonzero", 0, "0"),
    ],
)
def test_a_number_is_written_as_people_read_it(column, value, text):
    assert numerals.number(column, value) == text


def test_an_interval_has_the_decimals_of_its_mean():
    assert numerals.with_interval("top1", 0.9316, 0.0081) == "93.2 ± 0.8"
    assert numerals.with_interval("top1", 0.9316, 0.0081, decimals=2) == "93.16 ± 0.81"
    assert numerals.with_interval("top1", 0.9316, None) == "93.2"


def test_a_difference_has_a_sign_unless_it_rounds_to_zero():
    assert numerals.difference("top1", 0.008) == "+0.8"
    assert numerals.difference("top1", -0.008) == "−0.8"
    assert numerals.difference("top1", -0.0004) == "0.0"
    assert numerals.difference("ece", None) == "–"


def test_the_unit_of_a_heading_is_left_to_the_cell_where_it_scales():
    def unit(name: str, unit: str) -> str:
        return numerals.unit(Column(name, name, "cost", "lower", unit))

    assert unit("top1", "") == "%"
    assert unit("size_bytes", "bytes") == unit("speedup_cpu_b1", "×") == ""
    assert unit("latency_cpu_b1_p50_ms", "ms") == "ms"


@pytest.mark.parametrize(
    ("p", "text"), [(0.0004, "< 0.001"), (0.0041, "0.004"), (0.041, "0.041"), (0.13, "0.13"), (None, "–")]
)
def test_p_values_never_reach_zero(p, text):
    assert numerals.p_value(p) == text


def test_the_test_set_decides_the_decimals():
    assert (numerals.percent_decimals(360), numerals.percent_decimals(10_000)) == (1, 2)
