"""What errors say, of foreign exceptions too."""

from __future__ import annotations

from kdbench.errors import in_words


class Unspeakable(Exception):
    """Fails to say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_what_an_exception_says_is_one_line_whatever_it_does() -> None:
    assert in_words(ValueError("a\n  b")) == "a b"
    assert in_words(ValueError()) == in_words(Unspeakable()) == "no message"
