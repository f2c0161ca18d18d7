from __future__ import annotations

import pytest

from kdbench.column import Column, Scale
from kdbench.report import numerals


def scaled(scale: Scale, unit: str = "") -> Column:
    return Column("name", "Title", "task", "higher", unit, scale=scale)


@pytest.mark.parametrize(
    ("scale", "value", "text"),
    [
        ("percent", 0.9316, "93.2"),
        ("percent", -0.012, "−1.2"),
        ("count", 278_324, "278 k"),
        ("count", 40.82e6, "40.8 M"),
        ("count", 999_600, "1.00 M"),
        ("count", 84, "84"),
        ("bytes", 1_115_000, "1.11 MB"),
        ("bytes", 512, "512 B"),
        ("ms", 0.020123, "0.0201"),
        ("ms", 0.9996, "1.00"),
        ("ms", 12345.6, "12346"),
        ("rate", 49_700.0, "49.7 k"),
        ("ratio", 11.37, "11.4×"),
        ("plain", 0.0305, "0.030"),
        ("plain", None, "–"),
        ("count", 0, "0"),
    ],
)
def test_a_number_is_written_as_people_read_it(scale, value, text):
    assert numerals.number(scaled(scale), value) == text


def test_an_interval_has_the_decimals_of_its_mean():
    assert numerals.with_interval(scaled("percent"), 0.9316, 0.0081) == "93.2 ± 0.8"
    assert numerals.with_interval(scaled("percent"), 0.9316, 0.0081, decimals=2) == "93.16 ± 0.81"
    assert numerals.with_interval(scaled("percent"), 0.9316, None) == "93.2"


def test_a_difference_has_a_sign_unless_it_rounds_to_zero():
    assert numerals.difference(scaled("percent"), 0.008) == "+0.8"
    assert numerals.difference(scaled("percent"), -0.008) == "−0.8"
    assert numerals.difference(scaled("percent"), -0.0004) == "0.0"
    assert numerals.difference(scaled("plain"), None) == "–"


def test_the_unit_of_a_heading_is_left_to_the_cell_where_it_scales():
    assert numerals.unit(scaled("percent")) == "%"
    assert numerals.unit(scaled("bytes", "bytes")) == numerals.unit(scaled("ratio", "×")) == ""
    assert numerals.unit(scaled("ms", "ms")) == "ms"


@pytest.mark.parametrize(
    ("p", "text"), [(0.0004, "< 0.001"), (0.0041, "0.004"), (0.041, "0.041"), (0.13, "0.13"), (None, "–")]
)
def test_p_values_never_reach_zero(p, text):
    assert numerals.p_value(p) == text


def test_the_test_set_decides_the_decimals():
    assert (numerals.percent_decimals(360), numerals.percent_decimals(10_000)) == (1, 2)
