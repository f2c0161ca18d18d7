"""Errors that a person can mend: one line that says what is wrong, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from kdbench.printable import printable

# Signs of a text, of which the last say the mend.
_LONGEST, _END = 2_000, 300


class UserError(Exception):
    """A request that cannot be carried out; its text is one line, and the command line exits with 2."""

    def __init__(self, text: str) -> None:
        """Keep the text as one line that a terminal can show, whatever it quotes, and however much of it."""
        line = printable(text)
        if len(line) > _LONGEST:
            line = f"{line[: _LONGEST - _END]} … {line[-_END:]}"
        super().__init__(line)


class SharedFault(UserError):
    """A fault of what all parts of a run rest on: its files, its data, its code or the disk.

    It is no part's own: the run stops, and none is recorded as failed for it.
    """


def in_words(error: BaseException) -> str:
    """Return what an exception says, on one line; those of foreign code may say nothing, or fail to."""
    try:
        return " ".join(str(error).split()) or "no message"
    except Exception:
        return "no message"


def refuse(text: str) -> None:
    """Raise a UserError: what is done with a fault where nobody collects them."""
    raise UserError(text)


def nearest(name: str, candidates: Iterable[str], synonyms: Mapping[str, str] | None = None) -> str:
    """Return `` Did you mean 'x'?`` for the candidate nearest to ``name``, or an empty string.

    ``synonyms`` maps what people call a candidate to its name; one that they use goes before a like spelling.
    """
    folded = {_fold(candidate): candidate for candidate in candidates}
    meant = {_fold(synonym): own for synonym, own in (synonyms or {}).items() if own in folded.values()}
    if own := meant.get(_fold(str(name))):
        return f" Did you mean '{own}'?"
    close = difflib.get_close_matches(_fold(str(name)), list(folded), n=1, cutoff=0.6)
    return f" Did you mean '{folded[close[0]]}'?" if close else ""


def _fold(name: str) -> str:
    """Return a name without what people mix up: case, strokes, and letters that look like digits."""
    return name.lower().translate(str.maketrans("oil-", "011_"))


def unknown(
    kind: str, name: str, candidates: Iterable[str], synonyms: Mapping[str, str] | None = None
) -> UserError:
    """Return the error for a name that is not known: the nearest right one, or all that are allowed."""
    candidates = sorted(candidates)
    hint = nearest(name, candidates, synonyms) or f" Known: {', '.join(candidates)}."
    return UserError(f"unknown {kind} '{name}'.{hint}")
