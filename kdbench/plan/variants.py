"""Methods with all their hyper-parameters: the grid that a suite spans, and how each variant is called."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic import ValidationError

from kdbench.errors import UserError, nearest
from kdbench.methods import Method, Parameters, find_method
from kdbench.suite import Suite
from kdbench.suite.references import located
from kdbench.suite.schema import MethodEntry


@dataclass(frozen=True)
class Variant:
    """A method with all its hyper-parameters, and the students that it is for."""

    label: str
    registered: Method
    hyper: Parameters
    students: tuple[str, ...]


def expand(entry: MethodEntry, suite: Suite, special: Mapping[str, Any] | None = None) -> Iterator[Variant]:
    """Yield every combination of the values that a suite gives; raises UserError for a wrong one.

    ``special`` holds the values of one pair of models; they go before the suite's, and the label is as
    without them, so that a method has one name in all pairs.
    """
    registered = find_method(located(entry.name, entry.folder))
    students = tuple(student.shown for student in suite.students)
    for name in entry.students or ():
        if name not in students:
            raise UserError(f"method '{entry.name}': unknown student '{name}'.{nearest(name, students)}")
    grid = dict(_grid(registered, entry.parameters))
    for values in itertools.product(*grid.values()):
        given = dict(zip(grid, values, strict=True))
        usual = _hyper(registered, given)
        shown = _shown(entry, usual, swept={key for key in grid if len(grid[key]) > 1})
        for key in special or {}:
            if key in shown:
                raise UserError(
                    f"pairs: method '{entry.name}' has a '{key}' of one pair's own, but its name shows "
                    f"another ({_label(entry, registered, shown)}): give it a label, or one value."
                )
        yield Variant(
            _label(entry, registered, shown),
            registered,
            _hyper(registered, given | dict(special)) if special else usual,
            students if entry.students is None else entry.students,
        )


def _shown(entry: MethodEntry, hyper: Parameters, swept: set[str]) -> dict[str, Any]:
    """Return what sets a variant apart: parameters that are swept, or that differ from their default."""
    fields = type(hyper).model_fields
    return {
        key: value
        for key, value in hyper.model_dump().items()
        if key in swept or (entry.label is None and value != fields[key].default)
    }


def _label(entry: MethodEntry, registered: Method, shown: Mapping[str, Any]) -> str:
    detail = ",".join(
        f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in shown.items()
    )
    name = entry.label or registered.name
    return f"{name}({detail})" if detail else name


def _grid(registered: Method, given: Mapping[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    """Yield the values of each hyper-parameter: a list is swept unless the parameter itself is a list."""
    fields = registered.parameters.model_fields
    for key, value in given.items():
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


def _hyper(registered: Method, given: dict[str, Any]) -> Parameters:
    try:
        return registered.parameters(**given)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            known = list(registered.parameters.model_fields)
            hint = nearest(field, known) or f" Known: {', '.join(known) or 'none'}."
            raise UserError(f"method '{registered.name}' has no parameter '{field}'.{hint}") from None
        message = first["msg"][0].lower() + first["msg"][1:]
        raise UserError(
            f"method '{registered.name}': {field}: found {first['input']!r}; {message}."
        ) from None
