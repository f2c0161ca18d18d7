"""What a suite may not have run: code in a run directory, and Python's own library."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kdbench.code.factory import factory_fingerprint, load_factory
from kdbench.errors import UserError


@pytest.mark.parametrize(
    "reference",
    [
        "os:system",
        "subprocess:run",
        "builtins:exec",
        "importlib.util:find_spec",
        "antigravity:x",
        "kdbench.cli:main",
        "kdbench.__main__:main",
    ],
)
def test_nothing_of_pythons_own_library_is_imported_or_called(reference: str) -> None:
    with pytest.raises(UserError, match=r"is of (Python's own library|kdbench's commands), and no model"):
        load_factory(reference)


def test_what_a_file_has_from_the_library_is_no_factory_and_what_it_makes_itself_is(tmp_path: Path) -> None:
    file = tmp_path / "nets.py"
    file.write_text(
        "import functools\nfrom os import system\nfrom subprocess import Popen\n"
        "def make(width):\n    return width\n"
        "narrow = functools.partial(make, 4)\n"
    )
    assert load_factory(f"{file}:make")(3) == 3 and load_factory(f"{file}:narrow")() == 4
    for name in ("system", "Popen"):
        with pytest.raises(UserError, match="is of Python's own library"):
            load_factory(f"{file}:{name}")


def test_a_file_of_the_users_may_have_the_name_of_a_module_of_the_library(tmp_path: Path) -> None:
    (tmp_path / "queue.py").write_text("def make():\n    return 5\n")
    assert load_factory(f"{tmp_path}/queue.py:make")() == 5


def test_code_in_a_run_directory_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "nodes").mkdir()
    (tmp_path / "run.json").write_text("{}")
    for place in (tmp_path, tmp_path / "nodes"):
        (place / "evil.py").write_text(f"open({os.fspath(tmp_path / 'done')!r}, 'w')\ndef make(): pass\n")
        with pytest.raises(UserError, match=r"lies in the run directory .* none of whose files is run"):
            load_factory(f"{place}/evil.py:make")
    with pytest.raises(UserError, match="lies in the run directory"):
        load_factory(f"{tmp_path}/evil:make")
    assert not (tmp_path / "done").exists()


@pytest.mark.parametrize(
    "reference",
    [".:x", "..:x", "/:x", "a..b:x", f"{'x' * 300}.py:f", f"{'../' * 5000}x.py:f", f"a{'.b' * 9000}:c"],
)
def test_what_no_file_or_module_can_be_called_is_one_short_line(reference: str) -> None:
    for of in (load_factory, factory_fingerprint):
        with pytest.raises(UserError) as caught:
            of(reference)
        assert len(str(caught.value)) <= 2_100


def test_an_error_quotes_a_part_of_what_is_long() -> None:
    text = str(UserError(f"unknown model '{'x' * 100_000}'. Mend it."))
    assert len(text) < 2_100 and text.startswith("unknown model 'xxx") and text.endswith("Mend it.")
