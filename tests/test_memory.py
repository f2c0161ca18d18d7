"""Sizes of memory as people write them, and the default budget."""

from __future__ import annotations

import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdbench.errors import UserError
from kdbench.memory import UNITS, as_text, checked_budget, default_budget, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8GB", 8 * 10**9),
        ("500MB", 5 * 10**8),
        ("2GiB", 2 * 2**30),
        ("1.5 kB", 1500),
        (" 3 tib ", 3 * 2**40),
        ("0.5KiB", 512),
        ("1b", 1),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "12 apples",
        "8",
        "GB",
        "",
        "-1GB",
        "8G",
        "1e3MB",
        "8 GB!",
        "1,5GB",
        "8GB\n8",
        "٣",
        "٣GB",
        "9" * 400 + "GB",
    ],
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UserError, match=r"is not a size: give a size such as 8GB, 500MB or 2GiB\.$"):
        parse_size(text)


@pytest.mark.parametrize("text", ["0GB", "0.4B"])
def test_a_budget_of_nothing(text: str) -> None:
    with pytest.raises(UserError, match="a memory budget of 0 bytes holds nothing"):
        parse_size(text)
    with pytest.raises(UserError, match="a memory budget of -5 bytes holds nothing"):
        checked_budget(-5)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9_949, "9.9 kB"),
        (9_950, "10 kB"),
        (999_499, "999 kB"),
        (999_999, "1.0 MB"),
        (2_143_000_000, "2.1 GB"),
        (5 * 10**15, "5000 TB"),
    ],
)
def test_text(size: int, text: str) -> None:
    assert as_text(size) == text


@given(st.integers(1, 10**15))
def test_a_text_is_a_size_again_within_rounding(size: int) -> None:
    assert parse_size(as_text(size)) == pytest.approx(size, rel=0.051)
    assert as_text(size).split()[1] in UNITS


def test_the_default_is_half_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    free = psutil.virtual_memory()._replace(available=1000)
    monkeypatch.setattr("psutil.virtual_memory", lambda: free)
    assert default_budget() == 500
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (600, 10_000))
    assert (default_budget("cpu"), default_budget("cuda")) == (500, 300)
