"""What a user's code consists of: every file that is followed, and what is not the user's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from kdbench.code.factory import factory_fingerprint, load_factory
from kdbench.code.imports import code_of

Tree = Callable[..., None]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    """Write files below the current directory, by their path."""
    monkeypatch.chdir(tmp_path)

    def write(files: dict[str, str]) -> None:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return write


@pytest.mark.parametrize(
    ("importing", "files", "changed"),
    [
        ("import blocks", {"blocks.py": "A = 1"}, "blocks.py"),
        ("from blocks import *", {"blocks.py": "import deep", "deep.py": "A = 1"}, "deep.py"),
        ("def build():\n    from blocks import A", {"blocks.py": "A = 1"}, "blocks.py"),
        ("build = lambda: __import__('blocks')", {"blocks.py": "A = 1"}, "blocks.py"),
        ("import pack.sub.leaf", {"pack/sub/__init__.py": "", "pack/sub/leaf.py": "1"}, "pack/sub/leaf.py"),
        ("from pack import leaf", {"pack/__init__.py": "", "pack/leaf.py": "A = 1"}, "pack/leaf.py"),
        ("import pack", {"pack/__init__.py": "from .leaf import A", "pack/leaf.py": "A = 1"}, "pack/leaf.py"),
        ("import pack", {"pack/__init__.py": "from . import leaf", "pack/leaf.py": "A = 1"}, "pack/leaf.py"),
        (
            "import pack.low.leaf",
            {"pack/__init__.py": "", "pack/low/leaf.py": "from ..high import A", "pack/high.py": "A = 1"},
            "pack/high.py",
        ),
        ("import pack.leaf", {"pack/leaf.py": "A = 1"}, "pack/leaf.py"),  # a package without __init__.py
        ("import pack", {"pack/__init__.py": "A = 1"}, "pack/__init__.py"),
        (
            "import importlib\nblocks = importlib.import_module('pack.leaf')",
            {"pack/__init__.py": "", "pack/leaf.py": "A = 1"},
            "pack/leaf.py",
        ),
        ("try:\n    import blocks\nexcept ImportError: pass", {"blocks.py": "import net"}, "blocks.py"),
    ],
)
@pytest.mark.parametrize("reference", ["net.py:build", "net:build"])
def test_a_change_of_what_code_imports_changes_its_fingerprint(
    importing: str, files: dict[str, str], changed: str, reference: str, tree: Tree
) -> None:
    tree({"net.py": importing, "beside.py": "B = 1", **files})
    before = factory_fingerprint(reference)
    assert before != hashlib.sha256(importing.encode()).hexdigest()
    tree({"beside.py": "B = 2"})
    assert factory_fingerprint(reference) == before
    tree({changed: files[changed] + "\nC = 2"})
    assert factory_fingerprint(reference) != before


def test_code_that_is_alone_is_known_by_its_file(tree: Tree) -> None:
    text = "import os, torch, kdbench.column\nfrom numpy import array\nimport not_there\n"
    tree({"net.py": text, "pack/__init__.py": "\n", "pack/net.py": text})
    alone = hashlib.sha256(text.encode()).hexdigest()
    assert factory_fingerprint("net.py:build") == alone
    assert factory_fingerprint("pack.net:build") == alone  # an empty __init__.py does nothing


def test_a_library_is_known_by_the_file_of_the_factory(tree: Tree) -> None:
    tree({})
    assert factory_fingerprint("json:dumps") == hashlib.sha256(Path(json.__file__).read_bytes()).hexdigest()


def test_the_fingerprint_depends_on_no_path_and_on_which_module_has_which_content(tree: Tree) -> None:
    tree({"a/net.py": "import x, y", "a/x.py": "A = 1", "a/y.py": "A = 2"})
    tree({"b/net.py": "import x, y", "b/x.py": "A = 1", "b/y.py": "A = 2"})
    tree({"c/net.py": "import x, y", "c/x.py": "A = 2", "c/y.py": "A = 1"})
    a, b, c = (factory_fingerprint(f"{folder}/net.py:build") for folder in "abc")
    assert a == b != c


def test_modules_from_a_folder_that_code_adds_to_the_path_are_the_users(tree: Tree, tmp_path: Path) -> None:
    adding = f"import sys\nsys.path.append({str(tmp_path / 'shared')!r})\nimport blocks\ndef build(): pass\n"
    tree({"mine/net.py": adding, "shared/blocks.py": "A = 1"})
    load_factory("mine/net.py:build")
    before = factory_fingerprint("mine/net.py:build")
    tree({"shared/blocks.py": "A = 2"})
    load_factory("mine/net.py:build")
    assert factory_fingerprint("mine/net.py:build") != before


def test_a_file_that_is_no_python_needs_nothing(tmp_path: Path) -> None:
    (tmp_path / "torn.py").write_text("import blocks\ndef f(:\n")
    (tmp_path / "blocks.py").write_text("A = 1\n")
    assert code_of(tmp_path / "torn.py", [str(tmp_path)]).modules == {}
