"""Values that no field of a suite takes: made from the fields and types of the suite's own classes."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from harm.trial import SOUND, SUITE, Trial
from kdbench.methods.base import methods
from kdbench.suite import measurements, schema
from kdbench.suite.suite import Suite

# Where each part of a suite stands, and what must be there for it to be one.
PARTS: dict[str, type[BaseModel]] = {
    "": Suite,
    "dataset": schema.DatasetEntry,
    "dataset.augment": schema.Augment,
    "dataset.imbalance": schema.ImbalanceEntry,
    "teachers.0": schema.TeacherEntry,
    "students.0": schema.ModelEntry,
    "students.0.taps": schema.TapsEntry,
    "methods.1": schema.MethodEntry,
    "methods.2": schema.ChainEntry,
    "pairs.0": schema.PairEntry,
    "recipe": schema.Recipe,
    "measure": measurements.MeasureEntry,
    "controls": measurements.ControlsEntry,
    "controls.independent_teacher": measurements.IndependentEntry,
    "robustness": measurements.RobustnessEntry,
}
FULL: dict[str, Any] = SOUND | {
    "teachers": [{"name": "mlp_16"}],
    "students": [{"name": "mlp_4", "taps": {}}],
    "methods": ["scratch", {"name": "kd"}, {"chain": ["kd", "prune_magnitude"]}],
    "pairs": [{"teacher": "mlp_16", "students": ["mlp_4"]}],
    "controls": {"independent_teacher": {}},
    "robustness": {"corruptions": ["gaussian_noise"]},
}
FULL["dataset"] = FULL["dataset"] | {"augment": {}, "imbalance": {"factor": 2}}
# Of each type of JSON, values that are refused wherever another type is asked for.
WRONG: dict[str, dict[str, Any]] = {
    "string": {"a text": "nobody", "an empty text": ""},
    "number": {"a fraction": 3.5},
    "boolean": {"true": True},
    "array": {"nested lists": [[[]]], "a list of null": [None]},
    "object": {"a mapping": {"nobody": {"x": 1}}},
    "null": {"null": None},
}
# Values of the right type that are refused all the same.
EXTREME: dict[str, dict[str, Any]] = {
    "number": {"1e300": 1e300, "-1e300": -1e300, "infinity": float("inf"), "not a number": float("nan")},
    "integer": {"10**30": 10**30, "-10**30": -(10**30), "10**400": 10**400, "1e300": 1e300, "-1": -1},
    "string": {
        "100,000 letters": "x" * 100_000,
        "a surrogate": "\ud800",
        "an escape": "\x1b[2J\x07",
        "a nul": "a\0b",
    },
    "array": {"100,000 times 1e300": [1e300] * 100_000, "a list of mappings": [{"nobody": 1}]},
}
# What is taken for these: a number is a seed, a truth value is whether, a text is a name.
ALSO = {"independent_teacher": ("boolean", "integer"), "dataset": ("string",), "classes": ("integer",)}
# These may hold what is none of kdbench's business; and a text that is as long as one likes.
FREE = ("description", "args", "recipe", "heads", "methods")


def trials() -> Iterator[Trial]:
    """Yield every field with every wrong type and every extreme value; then the parameters of methods."""
    for at, kind in PARTS.items():
        properties = kind.model_json_schema()["properties"]
        for field, property in properties.items():
            types = _types(property) | set(ALSO.get(field, ()))
            where = f"{at}.{field}".removeprefix(".")
            for label, value in _values(types).items():
                free = field in FREE and isinstance(value, dict if field != "description" else str)
                yield _trial("fields", where, label, _with(where, value), statuses=(0, 2) if free else (2,))
    for name, method in methods().items():
        for field, property in method.parameters.model_json_schema().get("properties", {}).items():
            if types := _types(property):
                # Every third, which differ from one parameter to another: there are very many.
                for label, value in list(_values(types).items())[len(field) % 3 :: 3]:
                    yield _trial(
                        "parameters", f"{name}.{field}", label, _with_parameter(method, field, value)
                    )


def _types(property: dict[str, Any]) -> set[str]:
    """Return the types of JSON that a field takes; all of them where nothing is said."""
    parts = property.get("anyOf", property.get("oneOf", [property]))
    types = {part.get("type", "object" if "$ref" in part else None) for part in parts}
    if None in types:
        # A choice of texts, or anything.
        types = types - {None} | {"string"}
    return types | ({"string"} if any("enum" in part or "const" in part for part in parts) else set())


def _values(types: set[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for type, wrong in WRONG.items():
        if type not in types:
            values |= wrong
    for type in types:
        values |= EXTREME.get(type, {})
    return values


def _with(where: str, value: Any) -> dict[str, Any]:
    """Return the suite with a value in one place."""
    suite = copy.deepcopy(FULL)
    *parts, field = where.split(".")
    place: Any = suite
    for part in parts:
        place = place[int(part) if part.isdigit() else part]
    place[field] = value
    return suite


def _with_parameter(method: Any, field: str, value: Any) -> dict[str, Any]:
    entry = {"name": method.name, field: value}
    return SOUND | {"methods": ["scratch", entry if method.trains else {"chain": ["kd", entry]}]}


def _trial(group: str, where: str, label: str, suite: dict[str, Any], **more: Any) -> Trial:
    text = json.dumps(suite).replace("Infinity", ".inf").replace("NaN", ".nan")
    return Trial(group, f"{where} is {label}".replace(" ", "-"), (("check", SUITE),), {SUITE: text}, **more)
