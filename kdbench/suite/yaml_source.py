"""A YAML file that remembers the line of every field, so that a mistake can be pointed at."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from kdbench.errors import UserError

# The core schema of YAML 1.2 (chapter 10.3.2 of its specification): what a plain scalar stands for.
# YAML 1.1 reads 010 as eight, 1:30 as ninety, yes as true, and 5e-4 as text.
_CORE: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("null", r"~|null|Null|NULL|", ("~", "n", "N", "")),
    ("bool", r"true|True|TRUE|false|False|FALSE", tuple("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", tuple("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", tuple("-+.0123456789")),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", tuple("-+.")),
    ("merge", r"<<", ("<",)),
)
_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with YAML 1.2's core schema and merge keys; a key given twice is refused."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key, _ in node.value:
            if keys.count(key.value) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the field '{key.value}' is given twice", key.start_mark
                )
        return super().construct_mapping(node, deep)

    def number(self, node: yaml.ScalarNode) -> int | float:
        """Return the number that a scalar stands for; base eight and sixteen carry 0o and 0x."""
        text = node.value
        try:
            if node.tag.endswith("int"):
                return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
            return float(re.sub(r"\.(?=[in])", "", text.lower()))
        except ValueError:
            raise yaml.constructor.ConstructorError(
                None, None, f"{text[:40]} is not a number that can be read", node.start_mark
            ) from None


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper, which also quotes text that YAML 1.2 would read as something else."""


# Their own: PyYAML's are shared with every user of it in this process.
_Loader.yaml_implicit_resolvers = {}
_Dumper.yaml_implicit_resolvers = {
    key: list(value) for key, value in yaml.SafeDumper.yaml_implicit_resolvers.items()
}
for _kind, _pattern, _first in _CORE:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"{_TAG}{_kind}", re.compile(f"^(?:{_pattern})$"), list(_first))
for _kind in ("int", "float"):
    _Loader.add_constructor(f"{_TAG}{_kind}", _Loader.number)


def read_value(text: str) -> Any:
    """Return the value of a piece of YAML; raises yaml.YAMLError."""
    return yaml.load(text, Loader=_Loader)


def as_yaml(value: Any) -> str:
    """Return plain values as YAML, which this module and readers of YAML 1.1 read alike."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


@dataclass
class YamlSource:
    """The content of a YAML file, with overrides, and where each part of it stands."""

    file: Path
    value: Any
    node: yaml.Node | None
    overridden: dict[tuple[str, ...], str] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path) -> YamlSource:
        """Read a file; raises UserError with the line of the first mistake."""
        try:
            text = file.read_text(encoding="utf-8")
            source = cls(file, read_value(text), yaml.compose(text, Loader=_Loader))
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = f":{mark.line + 1}" if mark else ""
            raise UserError(f"{file}{line}: not valid YAML: {error.problem or error.context}.") from None
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise UserError(f"{file} cannot be read: {' '.join(str(error).split())}.") from None
        try:
            for location, number in _infinite(source.value):
                raise UserError(f"{source.where(location)}: {_not_finite(location, number)}")
        except RecursionError:
            raise UserError(f"{file} cannot be read: a part of it holds itself.") from None
        return source

    def override(self, assignment: str) -> None:
        """Apply ``a.b=value``; list items are named by their number, and the value is YAML."""
        path, equals, text = assignment.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            raise UserError(f"--set {assignment}: expected key=value, for example recipe.epochs=3.")
        try:
            value = read_value(text)
        except yaml.YAMLError:
            raise UserError(f"--set {assignment}: the value is not valid YAML.") from None
        for location, number in _infinite(value, tuple(keys)):
            raise UserError(f"--set {assignment}: {_not_finite(location, number)}")
        parent = self.value
        for key in keys[:-1]:
            if isinstance(parent, dict) and isinstance(parent.get(key), str) and key == "dataset":
                parent[key] = {"name": parent[key]}
            parent = (
                parent.setdefault(key, {}) if isinstance(parent, dict) else _item(parent, key, assignment)
            )
        if isinstance(parent, list):
            _item(parent, keys[-1], assignment)
            parent[int(keys[-1])] = value
        elif isinstance(parent, dict):
            parent[keys[-1]] = value
        else:
            raise UserError(f"--set {assignment}: '{'.'.join(keys[:-1])}' holds a plain value, not fields.")
        self.overridden[tuple(keys)] = assignment

    def where(self, location: Sequence[Any]) -> str:
        """Return ``file:line`` of a field, or the override that set it."""
        names = tuple(str(part) for part in location)
        for keys, assignment in self.overridden.items():
            if names[: len(keys)] == keys:
                return f"--set {assignment}"
        node = self.node
        line = node.start_mark.line if node else 0
        for part in location:
            child = _child(node, part)
            if child is None:
                # What is not in the file came with an override, perhaps of a field in it.
                inner = [text for keys, text in self.overridden.items() if keys[: len(names)] == names]
                if inner:
                    return f"--set {inner[0]}"
                break
            line, node = child
        return f"{self.file}:{line + 1}"


def _infinite(value: Any, location: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], float]]:
    """Yield the numbers that are infinite or not a number, each with its location."""
    if isinstance(value, float) and not math.isfinite(value):
        yield location, value
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for part, inner in parts:
        yield from _infinite(inner, (*location, part))


def _not_finite(location: Sequence[Any], number: float) -> str:
    return f"{'.'.join(map(str, location)) or 'value'}: found {number}; a number must be finite."


def _item(parent: Any, key: str, assignment: str) -> Any:
    if not isinstance(parent, list) or not key.isdigit() or int(key) >= len(parent):
        raise UserError(f"--set {assignment}: there is no '{key}' to go into.")
    return parent[int(key)]


def _child(node: yaml.Node | None, part: Any) -> tuple[int, yaml.Node] | None:
    """Return the line and the node of one field or item of a node."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return key.start_mark.line, value
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part].start_mark.line, node.value[part]
    return None
