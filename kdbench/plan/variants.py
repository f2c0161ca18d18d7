"""Methods with all their hyper-parameters: the grid that a suite spans, and how each variant is called."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic import ValidationError

from kdbench.errors import UserError, nearest
from kdbench.methods import Method, Parameters
from kdbench.methods.compressor import find_step
from kdbench.suite import Suite
from kdbench.suite.plain import shown
from kdbench.suite.references import located
from kdbench.suite.schema import CHAINED, ChainEntry, MethodEntry

# One point of a grid: the method, its hyper-parameters, its label.
Way = tuple[Method, Parameters, str]
MOST_COMBINATIONS = 10_000


@dataclass(frozen=True)
class Link:
    """A method or a compressor with all its hyper-parameters."""

    registered: Method
    hyper: Parameters

    @property
    def name(self) -> str:
        """The name of the method."""
        return self.registered.name


@dataclass(frozen=True)
class Variant:
    """One method, or a chain of them, with all hyper-parameters, and the students that it is for."""

    label: str
    links: tuple[Link, ...]
    students: tuple[str, ...]


def expand(
    entry: MethodEntry | ChainEntry, suite: Suite, special: Mapping[str, Any] | None = None
) -> Iterator[Variant]:
    """Yield every combination of the values that a suite gives; raises UserError for a wrong one.

    ``special`` holds the values of one pair of models; they go before the suite's, and the label is as
    without them, so that a method has one name in all pairs.
    """
    names = tuple(student.shown for student in suite.students)
    for name in entry.students or ():
        if name not in names:
            raise UserError(f"method '{entry.shown}': unknown student '{name}'.{nearest(name, names)}")
    students = names if entry.students is None else entry.students
    if isinstance(entry, ChainEntry):
        ways = [_ways_of_link(entry, place) for place in range(len(entry.chain))]
        _refuse_endless(entry.shown, map(len, ways))
        for combination in itertools.product(*ways):
            details = [detail for _, _, detail in combination]
            label = CHAINED.join(details) if entry.label is None else entry.label + _swept(ways, combination)
            yield Variant(
                label, tuple(Link(registered, hyper) for registered, hyper, _ in combination), students
            )
        return
    for registered, hyper, label in _ways(entry, named=entry.label is None, special=special or {}):
        yield Variant(label, (Link(registered, hyper),), students)


def _ways_of_link(entry: ChainEntry, place: int) -> list[Way]:
    """Return the grid of a link; raises UserError that names it."""
    link = entry.chain[place]
    try:
        return list(_ways(link, named=entry.label is None))
    except UserError as error:
        raise UserError(f"chain '{entry.shown}': link {place + 1} ({link.name}): {error}") from None


def _swept(ways: Sequence[Sequence[Way]], combination: Sequence[Way]) -> str:
    """Return what tells the combinations of a chain with a label of its own apart."""
    swept = [detail for choices, (_, _, detail) in zip(ways, combination, strict=True) if len(choices) > 1]
    return f" ({', '.join(swept)})" if swept else ""


def _ways(entry: MethodEntry, *, named: bool, special: Mapping[str, Any] = {}) -> Iterator[Way]:
    """Yield each point of the grid of one method: what it is, its hyper-parameters, and its label.

    ``named``: parameters that are not swept are part of the label where they differ from their defaults.
    """
    registered = find_step(located(entry.name, entry.folder))
    grid = dict(_grid(registered, entry.parameters))
    _refuse_endless(entry.shown, map(len, grid.values()))
    for values in itertools.product(*grid.values()):
        point = dict(zip(grid, values, strict=True))
        usual = _hyper(registered, point)
        shown = _shown(usual, swept={key for key in grid if len(grid[key]) > 1}, all_others=named)
        label = _label(entry, registered, shown)
        for key in special:
            if key in shown:
                raise UserError(
                    f"pairs: method '{entry.name}' has a '{key}' of one pair's own, but its name shows "
                    f"another ({label}): give it a label, or one value."
                )
        yield registered, _hyper(registered, point | dict(special)) if special else usual, label


def _refuse_endless(label: str, counts: Iterable[int]) -> None:
    combinations = math.prod(counts)
    if combinations > MOST_COMBINATIONS:
        raise UserError(
            f"method '{label}': its lists of values span {combinations:,} combinations: give lists that span "
            f"{MOST_COMBINATIONS:,} at most."
        )


def _shown(hyper: Parameters, *, swept: set[str], all_others: bool) -> dict[str, Any]:
    """Return what sets a variant apart: parameters that are swept, or that differ from their default."""
    fields = type(hyper).model_fields
    return {
        key: value
        for key, value in hyper.model_dump().items()
        if key in swept or (all_others and value != fields[key].default)
    }


def _label(entry: MethodEntry, registered: Method, shown: Mapping[str, Any]) -> str:
    detail = ",".join(
        f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in shown.items()
    )
    name = entry.label or registered.name
    return f"{name}({detail})" if detail else name


def _grid(registered: Method, parameters: Mapping[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    """Yield the values of each hyper-parameter: a list is swept unless the parameter itself is a list."""
    fields = registered.parameters.model_fields
    for key, value in parameters.items():
        listed = key in fields and any(
            get_origin(kind) in (list, tuple)
            for kind in (fields[key].annotation, *get_args(fields[key].annotation))
        )
        if value == [] and not listed:
            raise UserError(
                f"method '{registered.name}': {key}: found []; an empty list leaves the method out: "
                "give one value or more, or remove the field."
            )
        yield key, value if isinstance(value, list) and not listed else [value]


def _hyper(registered: Method, parameters: dict[str, Any]) -> Parameters:
    try:
        return registered.parameters(**parameters)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            known = list(registered.parameters.model_fields)
            hint = nearest(field, known) or f" Known: {', '.join(known) or 'none'}."
            raise UserError(f"method '{registered.name}' has no parameter '{field}'.{hint}") from None
        message = first["msg"][0].lower() + first["msg"][1:]
        raise UserError(
            f"method '{registered.name}': {field}: found {shown(first['input'])}; {message}."
        ) from None
