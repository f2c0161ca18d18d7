"""Numbers as people read them: percent, 278 k, 40.8 M, three significant digits, a dash for nothing."""

from __future__ import annotations

import math

from kdbench.column import Column

DASH = "–"
MINUS = "−"


def unit(column: Column) -> str:
    """Return the unit that belongs in the heading of a column; sizes and ratios carry theirs in the cell."""
    if column.scale == "percent":
        return "%"
    return "" if column.scale in ("bytes", "ratio") else column.unit


def number(column: Column, value: float | None, decimals: int = 1) -> str:
    """Return a value of a column as text; ``decimals`` is for percentages."""
    if value is None:
        return DASH
    match column.scale:
        case "percent":
            return percent(value, decimals)
        case "count" | "rate":
            return scaled(value)
        case "bytes":
            return scaled(value, "B")
        case "ratio":
            return f"{significant(value)}×"
        case "ms" | "joule":
            return significant(value)
        case _:
            return _signed_text(f"{value:.3f}")


def percent(value: float, decimals: int = 1) -> str:
    """Return a proportion in percent, without the sign of it."""
    return _signed_text(f"{100 * value:.{decimals}f}")


def with_interval(column: Column, mean: float | None, half_width: float | None, decimals: int = 1) -> str:
    """Return mean ± half the width of the interval, in the unit of the column."""
    text = number(column, mean, decimals)
    return text if half_width is None else f"{text} ± {number(column, half_width, decimals)}"


def difference(column: Column, value: float | None, decimals: int = 1) -> str:
    """Return a difference of two values of a column with its sign, or without one where it rounds to zero."""
    return DASH if value is None else _with_sign(number(column, abs(value), decimals), value)


def points(value: float | None, decimals: int = 1) -> str:
    """Return a difference of two proportions in percentage points, as ``difference`` does."""
    return DASH if value is None else _with_sign(percent(abs(value), decimals), value)


def _with_sign(text: str, value: float) -> str:
    if not any(digit in text for digit in "123456789"):
        return text
    return ("+" if value > 0 else MINUS) + text


def difference_unit(column: Column) -> str:
    """Return the unit of a difference, for running text."""
    return "points" if column.scale == "percent" else unit(column)


def percent_decimals(test_size: int) -> int:
    """Return how many decimals of a percentage the test set can carry: two from 5,000 examples on."""
    return 2 if test_size >= 5_000 else 1


def p_value(p: float | None) -> str:
    """Return a p-value with three decimals below 0.1 and two above; below 0.001 only that it is."""
    if p is None:
        return DASH
    if p < 0.001:
        return "< 0.001"
    return f"{p:.3f}" if p < 0.0995 else f"{p:.2f}"


def significant(value: float, digits: int = 3) -> str:
    """Return a number rounded to significant digits, never in exponent notation; whole digits are kept."""
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits}g}")
    decimals = digits - 1 - math.floor(math.log10(abs(rounded)))
    return _signed_text(f"{rounded:.{decimals}f}" if decimals >= 0 else f"{value:.0f}")


def scaled(value: float, unit: str = "") -> str:
    """Return a number with a decimal prefix: 278 k, 40.8 M, 1.09 MB."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        # 999,600 is 1.00 M and not 1000 k: the prefix is chosen after rounding.
        if float(f"{abs(value):.3g}") >= factor:
            return f"{significant(value / factor)} {prefix}{unit}"
    plain = f"{value:.0f}" if float(value).is_integer() else significant(value)
    return f"{plain} {unit}".rstrip()


def _signed_text(text: str) -> str:
    return text.replace("-", MINUS)
