"""A YAML file that remembers the line of every field, so that a mistake can be pointed at."""

from __future__ import annotations

import re
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from kdbench.errors import UserError
from kdbench.suite.plain import MOST_DEPTH, MOST_VALUES, cut, faults

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


# A suite that names the 21,000 classes of ImageNet takes a tenth of it.
MOST_BYTES = 4_000_000


class _Extent(NamedTuple):
    """How many values a node holds, each as often as an alias stands for it, and how deep they are nested."""

    values: int
    depth: int


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with YAML 1.2's core schema and merge keys; a key given twice is refused.

    So is what a few lines can make endless: nesting, and aliases of what holds aliases.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._extents: dict[int, _Extent] = {}
        self._begun = 0
        self._level = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()
        self._begun += 1
        self._level += 1
        self._refuse(_Extent(self._begun, self._level), event)
        node = super().compose_node(parent, index)
        self._level -= 1
        if not isinstance(event, yaml.AliasEvent):
            self._extents[id(node)] = self._extent(node, event)
        elif id(node) not in self._extents:
            raise _mistake("a part of it holds itself", event)
        return node

    def _extent(self, node: Any, event: yaml.Event) -> _Extent:
        """Return the extent of a node whose parts are composed."""
        parts = [] if isinstance(node, yaml.ScalarNode) else node.value
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in parts for part in pair]
        inner = [self._extents[id(part)] for part in parts]
        depth = 1 + max((extent.depth for extent in inner), default=0)
        extent = _Extent(1 + sum(extent.values for extent in inner), depth)
        self._refuse(extent, event)
        return extent

    def _refuse(self, extent: _Extent, event: yaml.Event) -> None:
        if extent.depth > MOST_DEPTH:
            raise _mistake(f"fields are nested more than {MOST_DEPTH} deep", event)
        if extent.values > MOST_VALUES:
            raise _mistake(f"it holds more than {MOST_VALUES:,} values", event)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        # A tag can say that what is none is a mapping; the base class refuses it.
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise _mistake(f"the field '{cut(key.value)}' is given twice", key)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
        return super().construct_mapping(node, deep)

    def number(self, node: yaml.ScalarNode) -> int | float:
        """Return the number that a scalar stands for; base eight and sixteen carry 0o and 0x."""
        text = self.construct_scalar(node)
        try:
            if node.tag.endswith("int"):
                return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
            return float(re.sub(r"\.(?=[in])", "", text.lower()))
        except ValueError:
            raise _mistake(f"{text[:40]} is not a number that can be read", node) from None

    def truth(self, node: yaml.ScalarNode) -> bool:
        """Return the boolean that a scalar stands for."""
        text = self.construct_scalar(node)
        if text.lower() not in ("true", "false"):
            raise _mistake(f"{text[:40]} is neither true nor false", node)
        return text.lower() == "true"


def _mistake(text: str, at: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(None, None, text, at.start_mark)


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
# The tags of the core schema alone: dates, sets and bytes are no plain values.
_Loader.yaml_constructors = {
    tag: yaml.SafeLoader.yaml_constructors[tag]
    for tag in (None, *(f"{_TAG}{kind}" for kind in ("null", "str", "seq", "map")))
}
for _kind in ("int", "float"):
    _Loader.add_constructor(f"{_TAG}{_kind}", _Loader.number)
_Loader.add_constructor(f"{_TAG}bool", _Loader.truth)


def read_value(text: str) -> Any:
    """Return the value of a piece of YAML; raises yaml.YAMLError."""
    return _read(text)[0]


def _read(text: str) -> tuple[Any, yaml.Node | None]:
    """Return the value of a piece of YAML, and the node that it was made of."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        return (None if node is None else loader.construct_document(node)), node
    finally:
        loader.dispose()


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
        if file.exists() and not file.is_file():
            raise UserError(f"{file} is not a file.")
        try:
            with file.open("rb") as opened:
                content = opened.read(MOST_BYTES + 1)
            if len(content) > MOST_BYTES:
                raise UserError(f"{file} is larger than {MOST_BYTES // 1_000_000} MB: no suite is.")
            source = cls(file, *_read(content.decode()))
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = f":{mark.line + 1}" if mark else ""
            raise UserError(f"{file}{line}: not valid YAML: {error.problem or error.context}.") from None
        except (OSError, ValueError, OverflowError, yaml.YAMLError) as error:  # PyYAML's own, too
            raise UserError(f"{file} cannot be read: {' '.join(str(error).split())}.") from None
        for location, fault in faults(source.value):
            raise UserError(f"{source.where(location)}: {as_field(location)}: {fault}.")
        return source

    def override(self, assignment: str) -> None:
        """Apply ``a.b=value``; list items are named by their number, and the value is YAML."""
        path, equals, text = assignment.partition("=")
        keys = path.strip().split(".")
        named = f"--set {cut(assignment)}"
        if not equals or not all(keys) or len(keys) > MOST_DEPTH:
            raise UserError(f"{named}: expected key=value, for example recipe.epochs=3.")
        try:
            value = read_value(text)
        except (ValueError, OverflowError, yaml.YAMLError) as error:
            reason = getattr(error, "problem", None) or "it has a sign that no text has"
            raise UserError(f"{named}: the value is not valid YAML: {reason}.") from None
        for location, fault in faults(value, tuple(keys)):
            raise UserError(f"{named}: {as_field(location)}: {fault}.")
        parent = self.value
        for key in keys[:-1]:
            place = _place(parent, key, named)
            if isinstance(parent, dict):
                parent.setdefault(key, {})
                if key == "dataset" and isinstance(parent[key], str):
                    parent[key] = {"name": parent[key]}
            # A copy, because an alias may stand for the same elsewhere.
            parent[place] = copy(parent[place])
            parent = parent[place]
        if not isinstance(parent, dict | list):
            raise UserError(f"{named}: '{as_field(keys[:-1])}' holds a plain value, not fields.")
        parent[_place(parent, keys[-1], named)] = value
        self.overridden[tuple(keys)] = named

    def where(self, location: Sequence[Any]) -> str:
        """Return ``file:line`` of a field, or the override that set it."""
        names = tuple(str(part) for part in location)
        for keys, named in self.overridden.items():
            if names[: len(keys)] == keys:
                return named
        node = self.node
        line = node.start_mark.line if node else 0
        for part in location:
            child = _child(node, part)
            if child is None:
                # What is not in the file came with an override, perhaps of a field in it.
                inner = [named for keys, named in self.overridden.items() if keys[: len(names)] == names]
                if inner:
                    return inner[0]
                break
            line, node = child
        return f"{self.file}:{line + 1}"


def as_field(location: Sequence[Any]) -> str:
    """Return the name by which errors call a part of a suite."""
    return cut(".".join(map(str, location))) or "value"


def _place(parent: Any, key: str, override: str) -> Any:
    """Return the field or the item of a part of a suite that a key of an override stands for."""
    if isinstance(parent, dict):
        return key
    if not isinstance(parent, list) or not re.fullmatch("[0-9]{1,9}", key) or int(key) >= len(parent):
        raise UserError(f"{override}: there is no '{cut(key)}' to go into.")
    return int(key)


def _child(node: yaml.Node | None, part: Any) -> tuple[int, yaml.Node] | None:
    """Return the line and the node of one field or item of a node."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return key.start_mark.line, value
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part].start_mark.line, node.value[part]
    return None
