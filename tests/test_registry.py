"""The registry: names, references, collisions, plug-ins of installed packages."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kdbench.errors import UserError
from kdbench.methods.compressor import COMPRESSORS, Compressor, compressor
from kdbench.registry import Registry, place_of

OWN = """
from kdbench.methods.compressor import Compressor, compressor

@compressor({name!r}, title="nothing", source="a test", year=2024)
class Same(Compressor):
    def decide(self, model, batches):
        return {{}}

    def apply(self, model, decision):
        return model

class Plain:
    pass
"""


@pytest.fixture
def own(tmp_path: Path):
    def write(name: str) -> str:
        file = tmp_path / "own.py"
        file.write_text(OWN.format(name=name))
        return str(file)

    return write


def test_a_members_name_is_found_and_a_misspelt_one_gets_the_nearest():
    assert COMPRESSORS.find("cast").name == "cast"
    with pytest.raises(UserError, match=r"unknown compressor 'kast'\. Did you mean 'cast'\?"):
        COMPRESSORS.find("kast")


def test_a_member_of_a_users_file_is_found_by_reference_only(own):
    file = own("same")
    assert COMPRESSORS.find(f"{file}:Same").name == "same"
    assert "same" not in COMPRESSORS.all()
    with pytest.raises(UserError, match="unknown compressor 'same'"):
        COMPRESSORS.find("same")


def test_what_a_users_file_imports_of_kdbench_is_known_afterwards(tmp_path: Path):
    (tmp_path / "own.py").write_text("from kdbench.methods.compressors.cast import Cast as make\n")
    code = (
        "from kdbench.code.factory import load_factory; load_factory('own.py:make');"
        "from kdbench.methods.compressor import COMPRESSORS; print(COMPRESSORS.find('cast').name)"
    )
    root = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "cast"


def test_a_class_that_is_not_registered_is_refused_with_its_place(own):
    with pytest.raises(UserError, match=r"is no compressor: own\.py:12 is not registered"):
        COMPRESSORS.find(f"{own('same')}:Plain")


def test_a_users_member_may_not_take_the_name_of_another(own):
    with pytest.raises(
        UserError, match=r"'cast' of own\.py:4 has the name of one at cast\.py:\d+: rename it"
    ):
        COMPRESSORS.find(f"{own('cast')}:Same")


def test_two_members_of_one_name_are_refused():
    registry: Registry[str] = Registry("thing", home="kdbench.methods.compressors")
    registry.add("one", "first", len)
    registry.add("one", "again", len)
    assert registry.find("one") == "again"
    with pytest.raises(UserError, match="two things are called 'one'"):
        registry.add("one", "other", place_of)


def test_a_member_that_lacks_a_method_is_refused_where_it_stands():
    with pytest.raises(UserError, match=r"'half' \(test_registry\.py:\d+\) lacks the method apply\(\)"):

        @compressor("half", title="half", source="a test", year=2024)
        class Half(Compressor):
            def decide(self, model, batches):
                return {}

    assert "half" not in COMPRESSORS.all()


def test_an_installed_package_adds_members_and_a_broken_one_is_named(monkeypatch):
    registry: Registry[str] = Registry("thing", home="kdbench.methods.compressors")

    class Point:
        name, value, dist = "extra", "extra.module", None

        def load(self) -> None:
            registry.add("extra", "from a package", len)

    class Broken(Point):
        def load(self) -> None:
            raise ImportError("no module named nowhere")

    def points(*, group: str):
        assert group == "kdbench.things"
        return [Point(), *more]

    more: list[Point] = []
    monkeypatch.setattr(importlib.metadata, "entry_points", points)
    assert registry.all() == {"extra": "from a package"}
    more.append(Broken())
    again: Registry[str] = Registry("thing", home="kdbench.methods.compressors")
    with pytest.raises(UserError, match=r"thing 'extra' of extra\.module cannot be imported: ImportError"):
        again.all()
