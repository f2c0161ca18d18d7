from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kdbench.code.factory import factory_fingerprint, load_factory


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(
        "import beside_nets\ndef build(k): return beside_nets.VALUE + k\nSIZE = 3\n"
    )
    (tmp_path / "beside_nets.py").write_text("VALUE = 40\n")
    return tmp_path


def test_a_file_is_found_from_the_current_directory(here: Path) -> None:
    assert load_factory("nets.py:build")(2) == 42
    assert load_factory("./nets.py:build") is load_factory(f"{here}/nets.py:build")


def test_imports_leave_the_search_path_alone(here: Path) -> None:
    before = list(sys.path)
    load_factory("nets.py:build")
    assert sys.path == before


def test_a_changed_file_is_imported_anew(here: Path) -> None:
    file = here / "changing.py"
    file.write_text("def make(): return 1\n")
    assert load_factory("changing.py:make")() == 1
    file.write_text("def make(): return 22\n")
    assert load_factory("changing.py:make")() == 22


def test_a_dataclass_in_a_file_can_be_made(here: Path) -> None:
    (here / "classes.py").write_text("""
from __future__ import annotations
from dataclasses import dataclass
@dataclass
class A:
    x: int = 5
""")
    assert load_factory("classes.py:A")().x == 5


def test_a_module_is_found_installed_and_in_the_current_directory(here: Path) -> None:
    assert load_factory("packaging.version:parse")("1.2").minor == 2
    package = here / "zoo_of_mine"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "small.py").write_text("def build(): return 'small'\n")
    assert load_factory("zoo_of_mine.small:build")() == "small"


def test_the_fingerprint_is_of_the_source_and_runs_nothing(here: Path) -> None:
    text = b"raise RuntimeError('imported')\n"
    (here / "boom.py").write_bytes(text)
    assert factory_fingerprint("boom.py:f") == hashlib.sha256(text).hexdigest()
    assert factory_fingerprint("boom:f") == hashlib.sha256(text).hexdigest()
    (here / "boom.py").write_bytes(text + b"#")
    assert factory_fingerprint("boom.py:f") != hashlib.sha256(text).hexdigest()


@pytest.mark.parametrize(
    ("reference", "texts"),
    [
        ("nets", ["'nets' is no factory", "package.module:name"]),
        ("nets.py:", ["is no factory"]),
        ("nets.py:a-b", ["is no factory"]),
        ("gone.py:build", ["there is no file gone.py (looked in "]),
        ("nets.py:biuld", ["there is no 'biuld' in nets.py.", "Did you mean 'build'?"]),
        ("nets.py:xyzzy", ["there is no 'xyzzy' in nets.py. It has: build."]),
        ("nets.py:SIZE", ["there is no function or class 'SIZE' in nets.py."]),
        ("no_such_module:f", ["cannot import no_such_module:f", "No module named 'no_such_module'"]),
        ("./nets.txt:f", ["./nets.txt:f: nets.txt is not a Python file"]),
        ("broken.py:f", ["cannot import broken.py:f (ZeroDivisionError: division by zero)"]),
        ("torn.py:f", ["cannot import torn.py:f (SyntaxError", "line 2"]),
    ],
)
def test_what_cannot_be_loaded(reference: str, texts: list[str], here: Path, message_of: Callable) -> None:
    (here / "broken.py").write_text("1 / 0\n")
    (here / "torn.py").write_text("x = 1\ndef f(:\n")
    (here / "nets.txt").write_text("")
    message = message_of(lambda: load_factory(reference))
    for text in texts:
        assert text in message
    # A failed import leaves nothing behind that a second attempt would take for the module.
    assert message_of(lambda: load_factory(reference)) == message


@pytest.mark.parametrize("reference", ["gone.py:f", "no_such_module:f", "no.such.module:f", "sys:exit"])
def test_fingerprints_need_a_source_file(reference: str, here: Path, message_of: Callable) -> None:
    assert reference.split(":")[0] in message_of(lambda: factory_fingerprint(reference))
