"""The index of the zoo, and what makes an entry of it out of date."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdbench.models import index

EFFICIENCY = Path(index.__file__).parents[1] / "efficiency"


def imports_of(name: str) -> Iterator[str]:
    """The files of the package that one of its files imports."""
    prefix = "kdbench.efficiency."
    for node in ast.walk(ast.parse((EFFICIENCY / name).read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(prefix):
            yield f"{node.module.removeprefix(prefix)}.py"


def test_multiply_adds_count_only_while_the_code_that_counts_is_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = index.indexed("resnet8")
    assert known is not None and known.macs is not None
    monkeypatch.setattr(index, "counter_fingerprint", lambda: "another")
    changed = index.indexed("resnet8")
    assert changed is not None and changed.macs is None
    assert (changed.params, changed.sketch) == (known.params, known.sketch)


def test_the_code_that_counts_is_every_file_that_counting_imports() -> None:
    found, waiting = set(), ["counts.py"]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += imports_of(name)
    # It only words the difference of two counts.
    assert found - {"crosscheck.py"} == set(index.COUNTER)


def test_a_changed_byte_of_that_code_changes_the_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = index.counter_fingerprint()
    folder = tmp_path / "efficiency"
    folder.mkdir()
    for name in index.COUNTER:
        (folder / name).write_bytes((EFFICIENCY / name).read_bytes())
    monkeypatch.setattr(index, "_FOLDER", tmp_path / "models")
    index.counter_fingerprint.cache_clear()
    try:
        assert index.counter_fingerprint() == before
        (folder / "rules.py").write_bytes(b"#" + (EFFICIENCY / "rules.py").read_bytes())
        index.counter_fingerprint.cache_clear()
        assert index.counter_fingerprint() != before
    finally:
        index.counter_fingerprint.cache_clear()
