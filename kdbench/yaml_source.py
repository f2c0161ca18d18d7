"""A YAML file that remembers the line of every field, so that a mistake can be pointed at."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from kdbench.errors import UserError


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which reads ``5e-4`` as the number that it is and refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key, _ in node.value:
            if keys.count(key.value) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the field '{key.value}' is given twice", key.start_mark
                )
        return super().construct_mapping(node, deep)


# A copy: without it the number would be read so by every user of PyYAML in this process.
_Loader.yaml_implicit_resolvers = {
    key: list(value) for key, value in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


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
            node = yaml.compose(text, Loader=_Loader)
            return cls(file, yaml.load(text, Loader=_Loader), node)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = f":{mark.line + 1}" if mark else ""
            raise UserError(f"{file}{line}: not valid YAML: {error.problem or error.context}.") from None
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise UserError(f"{file} cannot be read: {' '.join(str(error).split())}.") from None

    def override(self, assignment: str) -> None:
        """Apply ``a.b=value``; list items are named by their number, and the value is YAML."""
        path, equals, text = assignment.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            raise UserError(f"--set {assignment}: expected key=value, for example recipe.epochs=3.")
        try:
            value = yaml.load(text, Loader=_Loader)
        except yaml.YAMLError:
            raise UserError(f"--set {assignment}: the value is not valid YAML.") from None
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
