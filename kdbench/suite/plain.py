"""Plain values, as suites hold them: which numbers, texts and fields may be there, however deep."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from kdbench.printable import printable

# Records hold 64-bit integers.
LARGEST = 2**63 - 1
MOST_DEPTH = 32
# Some seconds of reading; a suite that names the 21,000 classes of ImageNet has a quarter of it.
MOST_VALUES = 100_000
# Of examples in a batch, and of a machine.
MOST_AT_ONCE, MOST_THREADS = 1_000_000, 4096
# Of a list of models, methods or seeds.
MOST_ENTRIES = 10_000
# Of a text; of a name or a path, which tables show in part; of a label, which is the head of a column.
LONGEST_TEXT, LONGEST_NAME, LONGEST_LABEL = 10_000, 1_000, 100

LONGEST_SHOWN = 200
_BREAKS = str.maketrans("\n\t", "  ")

Location = tuple[Any, ...]


class Exact(BaseModel):
    """Fields that take nothing else, no numbers that are not finite, and no truth for a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true and false where a number belongs: Python counts them as 1 and 0."""
        if _holds_truth(value) and not _takes_truth(cls.model_fields[str(info.field_name)].annotation):
            raise ValueError("true and false are no numbers or names; quote what is a text")
        return value


def _holds_truth(value: Any) -> bool:
    inner = value.values() if isinstance(value, Mapping) else value
    return isinstance(value, bool) or (
        isinstance(value, Mapping | list | tuple) and any(map(_holds_truth, inner))
    )


def _takes_truth(kind: Any) -> bool:
    if kind in (bool, Any) or (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return True
    if get_origin(kind) is Literal:
        return any(isinstance(choice, bool) for choice in get_args(kind))
    return any(map(_takes_truth, get_args(kind)))


def faults(value: Any, location: Location = (), depth: int = 0) -> Iterator[tuple[Location, str]]:
    """Yield what no record or table could hold of plain values (None, booleans, numbers, texts, lists and
    mappings), each with its location.
    """
    if depth > MOST_DEPTH:
        yield location, f"values are nested more than {MOST_DEPTH} deep"
    elif value is None or isinstance(value, bool):
        return
    elif isinstance(value, int):
        if abs(value) > LARGEST:
            yield location, f"found a number of {value.bit_length()} bits; a whole number has 64 at most"
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield location, f"found {value}; a number must be finite"
    elif isinstance(value, str):
        if fault := of_text(value, LONGEST_TEXT):
            yield location, fault
    elif isinstance(value, Mapping):
        keys = set(map(type, value))
        if not keys <= {str} and keys != {int}:
            yield location, "the names of fields are texts, or all of them whole numbers"
        for key, inner in value.items():
            for _, fault in faults(key, depth=MOST_DEPTH):
                yield location, f"the name of a field: {fault}"
            yield from faults(inner, (*location, key), depth + 1)
    elif isinstance(value, list | tuple):
        for place, inner in enumerate(value):
            yield from faults(inner, (*location, place), depth + 1)
    else:
        yield location, f"found a {type(value).__name__}; values are numbers, texts, lists and mappings"


def shown(value: Any) -> str:
    """Return a value as errors quote it, in part where it is long.

    >>> shown("a"), shown("a" * 1000)[-5:]
    ("'a'", 'a ...')
    """
    return cut(repr(value))


def cut(text: str) -> str:
    """Return text as errors quote it: its beginning, where it is long."""
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]} ..."


def of_text(text: str, longest: int) -> str | None:
    """Return what is wrong with a text, which may have several lines; None where nothing is."""
    if len(text) > longest:
        return f"found a text of {len(text):,} signs; it has {longest:,} at most"
    if printable(line := text.translate(_BREAKS)) != line:
        return "a text has no control signs, halves of surrogate pairs or signs that turn its direction"
    return None


def of_line(text: str, longest: int) -> str | None:
    """Return what is wrong with a text that is one line; None where nothing is."""
    fault = of_text(text, longest)
    return "it is one line" if fault is None and printable(text) != text else fault


def _line(longest: int, text: str) -> str:
    if fault := of_line(text, longest):
        raise ValueError(fault)
    return text


def as_name(text: str) -> str:
    """Return the text of a name or a path; raises ValueError for what no file can be called."""
    for path in (text, text.partition(":")[2]):
        try:
            Path(path).expanduser()
        except RuntimeError:
            raise ValueError("it begins with the home folder of somebody who has none here") from None
    return _line(LONGEST_NAME, text)


def as_label(text: str) -> str:
    """Return a label, its spaces made single; raises ValueError for signs that no table can show."""
    line = " ".join(text.split())
    if not line or printable(line) != line:
        raise ValueError("a label is plain text on one line")
    return _line(LONGEST_LABEL, line)


def _lines(text: str) -> str:
    if fault := of_text(text, LONGEST_TEXT):
        raise ValueError(fault)
    return text


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    for location, fault in faults(values):
        raise ValueError(".".join(map(str, ("", *location))).removeprefix(".") + f": {fault}")
    return values


# The name of what others name it by; a description; the name of a part of a network or of a class.
Label = Annotated[str, AfterValidator(as_label)]
Lines = Annotated[str, AfterValidator(_lines)]
Line = Annotated[str, AfterValidator(as_name)]
# Arguments and hyper-parameters, of which only what takes them knows more.
Free = Annotated[dict[str, Any], AfterValidator(_plain)]
Several = Field(max_length=MOST_ENTRIES)
