"""Text for one line of a terminal, a table or a figure: what others wrote, made fit for it, and counts."""

from __future__ import annotations

import re

# Controls (a terminal obeys them, XML and TeX refuse them), line ends, halves of surrogate pairs (which no
# file can hold), and what turns the direction of the text that follows. Joiners stay: emoji need them.
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def printable(text: str) -> str:
    """Return text on one line: line ends and tabs are spaces, for other controls stands U+FFFD."""
    return _UNFIT.sub(lambda match: " " if match.group().isspace() else "\N{REPLACEMENT CHARACTER}", text)


def coded(text: str) -> str:
    """Return a line of JSON with the codes of signs that are not fit for it in their place.

    >>> coded('"a\\x9b[2J"')
    '"a\\\\u009b[2J"'
    """
    return _UNFIT.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def counted(number: int, noun: str) -> str:
    """Return a number of things in words: ``1 student``, ``1,000 students``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
