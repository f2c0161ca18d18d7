"""Paths in a suite: found from the suite's folder, wherever it lies and wherever kdbench is started."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kdbench.code.factory import factory_fingerprint, load_factory
from kdbench.data import load_dataset, measure_dataset
from kdbench.errors import UserError
from kdbench.inputs import InputSpec
from kdbench.models import build_model
from kdbench.plan import make_plan
from kdbench.runner.amendments.deployment import Deployed
from kdbench.suite import Suite
from kdbench.suite.yaml_source import read_value

NETS = """
from torch import nn
def tiny(in_channels, num_classes):
    layers = [nn.Conv2d(in_channels, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes)]
    return nn.Sequential(*layers)
"""
OWN_METHOD = """
from kdbench.methods import method
from kdbench.methods.distillers.kd import KD
@method("own", title="own", source="this file", year=2026)
class Own(KD):
    pass
"""
DATA = """
import numpy as np
def make():
    x = np.zeros((40, 8, 8), np.uint8)
    return (x, np.arange(40) % 2), (x[:10], np.arange(10) % 2)
"""
SUITE = """
dataset: {name: "code/data.py:make"}
teachers: [{name: mlp_8, checkpoint: weights/teacher.pth}]
students:
  - "code/nets.py:tiny"
  - {name: "my_nets.small:tiny", label: small}
methods:
  - scratch
  - {name: "code/own.py:Own", label: own}
  - {name: takd, assistants: ["code/nets.py:tiny"], students: [small]}
seeds: [0]
recipe: {epochs: 1, batch_size: 4}
"""


def write_project(folder: Path) -> Path:
    for name, text in (
        ("code/data.py", DATA),
        ("code/nets.py", NETS),
        ("code/own.py", OWN_METHOD),
        ("my_nets/__init__.py", ""),
        ("my_nets/small.py", NETS),
        ("suite.yaml", SUITE),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "weights").mkdir()
    torch.manual_seed(0)
    weights = build_model("mlp_8", inputs=InputSpec.image((1, 8, 8)), num_classes=2).state_dict()
    torch.save(weights, folder / "weights" / "teacher.pth")
    return folder / "suite.yaml"


def ids(suite: Suite) -> list[str]:
    plan = make_plan(suite)
    return [*(teacher.id for teacher in plan.teachers), *(cell.id for cell in plan.cells)]


def test_everything_is_found_from_the_suites_file_with_ids_that_do_not_tell_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = write_project(tmp_path / "a"), write_project(tmp_path / "b" / "deeper")
    expected = ids(Suite.load(first))
    assert len(set(expected)) == len(expected) == 6
    monkeypatch.chdir(second.parent)
    # as it was found before: from the folder itself
    assert ids(Suite.load("suite.yaml")) == expected
    monkeypatch.chdir(tmp_path)
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(Suite.load("b/deeper/suite.yaml").to_yaml())
    assert read_value(resolved.read_text())["paths_from"] == str(second.parent)
    assert ids(Suite.load(resolved)) == expected
    assert ids(pickle.loads(pickle.dumps(Suite.load(first)))) == expected


def test_modules_of_one_name_in_two_folders_are_told_apart(tmp_path: Path) -> None:
    for value in (1, 2):
        folder = tmp_path / str(value)
        (folder / "same_name").mkdir(parents=True)
        (folder / "same_name" / "__init__.py").write_text("")
        (folder / "same_name" / "inner.py").write_text(f"def make(): return {value}\n")
    loaded = [load_factory(f"{tmp_path}/{value}/same_name.inner:make")() for value in (1, 2, 1)]
    assert loaded == [1, 2, 1]


@pytest.mark.parametrize(
    ("line", "wanted", "there"),
    [
        ("code/nets.py:tiny", "code/nets.py", "code/nets.py"),
        ("my_nets.small:tiny", "", ""),
        ("weights/teacher.pth", "weights/teacher.pth", "weights/teacher.pth"),
        ("code/own.py:Own", "code/own.py", "code/own.py"),
    ],
)
def test_a_path_that_is_right_from_the_current_folder_only_is_answered_with_both_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, wanted: str, there: str
) -> None:
    project = write_project(tmp_path / "project").parent
    suite = tmp_path / "suites" / "mine.yaml"
    suite.parent.mkdir()
    # without what the other cases are about
    fields = {
        "code/nets.py:tiny": "teachers: [mlp_8]\nstudents: ['code/nets.py:tiny']\nmethods: [scratch]\n",
        "my_nets.small:tiny": "teachers: [mlp_8]\nstudents: ['my_nets.small:tiny']\nmethods: [scratch]\n",
        "weights/teacher.pth": "teachers: [{name: mlp_8, checkpoint: weights/teacher.pth}]\n"
        "students: [mlp_8]\nmethods: [scratch]\n",
        "code/own.py:Own": "teachers: [mlp_8]\nstudents: [mlp_8]\nmethods: ['code/own.py:Own']\n",
    }
    suite.write_text(f"dataset: digits\n{fields[line]}")
    monkeypatch.chdir(project)
    with pytest.raises(UserError) as caught:
        Suite.load(suite)
    message = str(caught.value)
    assert message.startswith(f"{suite}:") and line in message and "\n" not in message
    assert f"it is not at {suite.parent / wanted}, only at {project / there}" in message
    # one way of the two that the message names
    suite.write_text(f"{suite.read_text()}paths_from: {project}\n")
    assert Suite.load(suite).teachers[0].name == "mlp_8"


def test_a_folder_of_images_is_relative_to_the_suite_and_then_to_the_data_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place, count in (("suites/pets", 2), ("root/pets", 3), ("root/birds", 4), ("here/cars", 5)):
        for label in ("a", "b"):
            (tmp_path / place / "train" / label).mkdir(parents=True)
            (tmp_path / place / "test" / label).mkdir(parents=True)
            for row in range(count):
                image = Image.fromarray(np.full((4, 4), row, np.uint8))
                image.save(tmp_path / place / "train" / label / f"{row}.png")
                image.save(tmp_path / place / "test" / label / f"{row}.png")
    (tmp_path / "here").mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / "here")
    setting = {"folder": tmp_path / "suites", "root": tmp_path / "root", "validation_fraction": 0}
    assert len(load_dataset("folder:pets", **setting).test) == 4
    assert len(load_dataset("folder:birds", **setting).test) == 8
    with pytest.raises(UserError) as caught:
        measure_dataset("folder:cars", **setting)
    assert f"it is not at {tmp_path}/suites/cars, only at {tmp_path}/here/cars" in str(caught.value)
    with pytest.raises(UserError, match=f"no folder {tmp_path}/suites/ships or {tmp_path}/root/ships"):
        measure_dataset("folder:ships", **setting)


def test_a_missing_file_says_where_it_was_looked_for(write_suite: Callable[..., Path]) -> None:
    text = "dataset: digits\nteachers: [mlp_8]\nstudents: ['gone.py:net']\nmethods: [scratch]\n"
    file = write_suite(text)
    with pytest.raises(UserError, match=f"student 'gone.py:net': there is no file {file.parent}/gone.py:"):
        make_plan(Suite.load(file))


def test_overrides_of_a_shipped_suite_are_relative_to_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    suite = Suite.load("quickstart", ["students=['nets.py:tiny']"])
    assert suite.students[0].reference == f"{tmp_path}/nets.py:tiny"
    assert suite.students[0].shown == "nets.py:tiny"


def test_a_colon_in_an_argument_of_a_model_is_no_code(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    suite = Suite.load(
        "quickstart", [f"students=[{{name: '{tmp_path}/nets.py:tiny', args: {{pool: 'adaptive:avg'}}}}]"]
    )
    student = suite.students[0]
    (source,) = Deployed(student.shown, student, student.args).key()[3:]
    assert source == factory_fingerprint(f"{tmp_path}/nets.py:tiny")


def test_an_assistant_at_the_wrong_place_is_one_line(
    write_suite: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "mid.py").write_text(NETS)
    monkeypatch.chdir(tmp_path / "here")
    suite = Suite.load(
        write_suite(
            "dataset: digits\nteachers: [mlp_8]\nstudents: [mlp_4]\nseeds: [0]\n"
            "methods: [scratch, {name: takd, assistants: ['mid.py:tiny']}]\n"
        )
    )
    with pytest.raises(
        UserError, match=r"name 'mid\.py:tiny': paths in a suite are relative to its file"
    ) as told:
        make_plan(suite)
    assert "\n" not in str(told.value)


def test_code_that_only_a_pair_names_is_found_from_a_runs_folder_too(
    write_suite: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "mid.py").write_text(NETS)
    suite = Suite.load(
        write_suite(
            "dataset: digits\nteachers: [mlp_8]\nstudents: [mlp_4]\nseeds: [0]\n"
            "methods: [scratch, {name: takd, label: t, assistants: [mlp_6]}]\n"
            "pairs: [{teacher: mlp_8, students: [mlp_4], methods: {t: {assistants: ['mid.py:tiny']}}}]\n"
        )
    )
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "suite.yaml").write_text(suite.to_yaml())
    again = Suite.load(tmp_path / "run" / "suite.yaml", ["name=small"])
    assert [cell.id for cell in make_plan(again).cells] == [cell.id for cell in make_plan(suite).cells]
