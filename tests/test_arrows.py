"""The arrows of the package: what may import what, read from the files themselves.

Modules of a layer import from those before it only. No module, and no two packages, import each other, also
not inside functions. The reading side works without torch.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "kdbench"
LONGEST = 300

# From what everything rests on to what a person meets; parts of one line know nothing of one another.
LAYERS = (
    {"printable"},
    {
        "errors",
        "bounds",
        "heads",
        "deferred",
        "progress",
        "shared_state",
        "place",
        "parent",
        "temporary",
    },
    {"child", "column", "machine", "memory", "suite"},
    {"column_names"},
    {"store"},
    {"code"},
    {"registry"},
    {"inputs"},
    {"models"},
    {"targets"},
    {"methods"},
    {"metrics", "data"},
    {"efficiency", "training"},
    {"plan"},
    {"runner", "exporting", "analysis"},
    {"report"},
    {"cli"},
    {"command"},
    {"__main__"},
)
READING = ("analysis", "report", "store", "suite", "column", "heads", "bounds")


@cache
def modules() -> dict[str, Path]:
    """Return the files of the package by the name of the module."""
    named = {}
    for file in sorted(ROOT.rglob("*.py")):
        parts = file.relative_to(ROOT.parent).with_suffix("").parts
        named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return named


def imported(nodes: Iterator[ast.AST]) -> Iterator[str]:
    """Yield every module that code imports, wherever it does, but not what only a type checker reads."""
    for node in nodes:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name if name in modules() else node.module for name in whole)
        else:
            yield from imported(ast.iter_child_nodes(node))


@cache
def arrows() -> dict[str, set[str]]:
    """Return which modules of the package each imports."""
    return {
        name: {other for other in imported(iter([ast.parse(file.read_text())])) if other in modules()}
        for name, file in modules().items()
    }


def part(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def layer(module: str) -> int:
    return next(place for place, parts in enumerate(LAYERS) if part(module) in parts)


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Return a circle of a graph, from a node back to itself; empty where there is none."""
    done: set[str] = set()

    def search(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        for other in sorted(graph[node]):
            if found := search(other, [*path, node]):
                return found
        done.add(node)
        return []

    return next(filter(None, (search(node, []) for node in sorted(graph))), [])


def test_a_circle_is_seen() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert circle(arrows()) == []


def test_arrows_point_from_what_a_person_meets_to_what_it_rests_on() -> None:
    wrong = [
        f"{name} -> {other}"
        for name, others in arrows().items()
        for other in others
        if part(name) and part(other) and part(name) != part(other) and layer(name) <= layer(other)
    ]
    assert wrong == []


def test_every_part_of_the_package_has_a_layer() -> None:
    parts = {part(name) for name in modules()} - {""}
    assert parts == set().union(*LAYERS)


@pytest.mark.parametrize("name", READING)
def test_the_reading_side_works_without_torch(name: str) -> None:
    names = [module for module in modules() if part(module) == name]
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_every_file_can_be_read_in_one_sitting() -> None:
    long = {
        name: lines
        for name, file in modules().items()
        if (lines := len(file.read_text().splitlines())) > LONGEST
    }
    assert long == {}
