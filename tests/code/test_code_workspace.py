"""Files of several folders in one process: each imports the modules of its own folder, then and later."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kdbench.code.factory import load_factory
from kdbench.errors import UserError

Write = Callable[..., None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    monkeypatch.chdir(tmp_path)

    def to(name: str, text: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return to


@pytest.mark.parametrize(
    "importing",
    [
        "import beside\ndef build(): return beside.NAME",
        "def build():\n    import beside\n    return beside.NAME",
        "import importlib\nbeside = importlib.import_module('beside')\ndef build(): return beside.NAME",
        "import through\ndef build(): return through.name()",
        "import pack.leaf\ndef build(): return pack.leaf.NAME",
    ],
)
def test_two_folders_have_modules_of_one_name(importing: str, write: Write) -> None:
    for folder in ("left", "right"):
        write(f"{folder}/net.py", importing)
        write(f"{folder}/beside.py", f"NAME = '{folder}'")
        write(f"{folder}/through.py", "def name():\n    from beside import NAME\n    return NAME")
        write(f"{folder}/pack/leaf.py", f"NAME = '{folder}'")
    left, right = (load_factory(f"{folder}/net.py:build") for folder in ("left", "right"))
    assert (left(), right(), left()) == ("left", "right", "left")
    assert load_factory("left/net.py:build") is left


def test_two_files_of_a_folder_share_a_module_that_runs_once(write: Write) -> None:
    write("beside.py", "RAN = []")
    write("one.py", "import beside\nbeside.RAN.append(1)\ndef get(): return beside.RAN")
    write("two.py", "import beside\nbeside.RAN.append(2)\ndef get(): return beside.RAN")
    one, two = load_factory("one.py:get"), load_factory("two.py:get")
    assert one() is two() and one() == [1, 2]


def test_a_module_that_changed_is_imported_anew_with_what_imports_it(write: Write) -> None:
    # Of the same size, in the same second: a cached compilation would still be taken for valid.
    write("net.py", "import beside\ndef build(): return beside.VALUE")
    write("beside.py", "VALUE = 1")
    assert load_factory("net.py:build")() == 1
    write("beside.py", "VALUE = 2")
    assert load_factory("net.py:build")() == 2


def test_a_module_of_the_program_makes_way_for_the_folders_own_and_comes_back(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = type(sys)("around")
    monkeypatch.setitem(sys.modules, "around", program)
    write(
        "net.py",
        "import around\ndef build():\n    import around as again\n    return around.NAME, again.NAME",
    )
    write("around.py", "NAME = 'mine'")
    build = load_factory("net.py:build")
    assert sys.modules["around"] is program
    assert build() == ("mine", "mine")
    assert sys.modules["around"] is program


def test_code_that_loads_code_of_another_folder_goes_on_with_its_own(write: Write) -> None:
    loading = "from kdbench.code.factory import load_factory\nother = load_factory('right/net.py:build')\n"
    write("left/net.py", f"import early\n{loading}import beside\ndef build(): return other(), beside.NAME")
    write("left/early.py", "")
    write("left/beside.py", "NAME = 'left'")
    write("right/net.py", "import beside\ndef build(): return beside.NAME")
    write("right/beside.py", "NAME = 'right'")
    assert load_factory("left/net.py:build")() == ("right", "left")


def test_what_code_adds_to_the_path_is_searched_for_its_folder_alone(write: Write, tmp_path: Path) -> None:
    adding = "import sys\nfrom pathlib import Path\nsys.path.append(str(Path(__file__).parent / 'lib'))\n"
    for folder in ("left", "right"):
        write(f"{folder}/net.py", f"{adding}import beside\ndef build(): return beside.NAME")
        write(f"{folder}/lib/beside.py", f"NAME = '{folder}'")
    before = list(sys.path)
    assert [load_factory(f"{folder}/net.py:build")() for folder in ("left", "right")] == ["left", "right"]
    assert sys.path == before


def test_a_file_hides_nothing_of_the_standard_library(write: Write) -> None:
    import json

    write("net.py", "import json\ndef build(): return json")
    write("json.py", "")
    assert load_factory("net.py:build")() is json
    assert sys.modules["json"] is json


def test_a_module_of_the_program_that_changed_is_refused_as_it_cannot_be_imported_anew(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("program/shared_layers.py", "VALUE = 1")
    write("mine/net.py", "import shared_layers\ndef build(): return shared_layers.VALUE")
    monkeypatch.syspath_prepend(tmp_path / "program")
    assert load_factory("mine/net.py:build")() == 1
    assert load_factory("mine/net.py:build")() == 1
    write("program/shared_layers.py", "VALUE = 2")
    with pytest.raises(UserError, match=r"shared_layers\.py changed since this process imported it"):
        load_factory("mine/net.py:build")
    monkeypatch.delitem(sys.modules, "shared_layers")
