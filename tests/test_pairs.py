"""Pairs of models, chains of assistants, and a plan that needs no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from kdbench.efficiency.zoo import entries
from kdbench.errors import SharedFault, UserError
from kdbench.inputs import InputSpec
from kdbench.models import build_model, families
from kdbench.models.index import FILE, indexed
from kdbench.plan import make_plan
from kdbench.progress import Progress
from kdbench.runner import run
from kdbench.store import RunDirectory, load, read_json, write_recorded
from kdbench.suite import Suite

Load = Callable[..., Suite]

PAIRED = """
dataset: {name: digits, args: {limit: 300, limit_test: 200}, validation_fraction: 0.2}
teachers: [cnn_4, cnn_8]
students: [mlp_16, cnn_2]
methods:
  - scratch
  - {name: kd, label: kd, temperature: 2}
pairs:
  - {teacher: cnn_4, students: [mlp_16], methods: {kd: {temperature: 8, alpha: 0.5}}}
  - {teacher: cnn_8, students: [cnn_2, mlp_16]}
seeds: [0]
recipe: {epochs: 1, batch_size: 25, lr: 0.1, precision: fp32}
measure: {latency: false}
"""


@pytest.fixture
def paired(write_suite: Callable[..., Path]) -> Load:
    def made(*overrides: str) -> Suite:
        return Suite.load(write_suite(PAIRED), overrides)

    return made


def test_only_the_pairs_that_are_named_meet(paired: Load) -> None:
    cells = make_plan(paired()).cells
    met = {(cell.teacher, cell.student) for cell in cells}
    assert met == {("cnn_4", "mlp_16"), ("cnn_8", "cnn_2"), ("cnn_8", "mlp_16")}
    assert len(cells) == 6


def test_a_pair_has_values_of_its_own_under_the_same_label(paired: Load) -> None:
    cells = [cell for cell in make_plan(paired()).cells if cell.method.startswith("kd")]
    assert {cell.method for cell in cells} == {"kd"}
    kd = {cell.teacher: cell.node.step.hyper for cell in cells}
    assert (kd["cnn_4"].temperature, kd["cnn_4"].alpha) == (8, 0.5)
    assert (kd["cnn_8"].temperature, kd["cnn_8"].alpha) == (2, 0.9)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("pairs.0.teacher=cnn_44", "unknown teacher 'cnn_44'. Did you mean 'cnn_4'?"),
        ("pairs.0.students=[mlp_61]", "unknown student 'mlp_61'. Did you mean 'mlp_16'?"),
        ("pairs.0.methods={scrach: {}}", "unknown method 'scrach'. Did you mean 'scratch'?"),
        ("pairs.0.methods={kd: {temprature: 3}}", "no parameter 'temprature'. Did you mean 'temperature'?"),
    ],
)
def test_a_wrong_pair_is_one_line(paired: Load, override: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        make_plan(paired(override))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_chain_is_trained_once_and_its_last_assistant_teaches(small_suite: Load, tmp_path: Path) -> None:
    suite = small_suite(
        "methods=[{name: takd, assistants: [cnn_4, mlp_32]}, {name: born_again, generations: 3}]",
        "teachers=[cnn_8]",
        "students=[cnn_2]",
        "seeds=[0]",
        "recipe.epochs=1",
    )
    plan = make_plan(suite)
    takd, born = (cell.node for cell in plan.cells)
    assert takd.teacher.entry.name == "mlp_32" and takd.teacher.teacher.entry.name == "cnn_4"
    assert takd.teacher.teacher.teacher is plan.teachers[0]
    assert [born.teacher.entry.name, born.teacher.teacher.entry.name] == ["cnn_2", "cnn_2"]
    outcome = run(suite, tmp_path / "run")
    assert (outcome.ok, outcome.failed) == (2, 0)
    directory = RunDirectory(tmp_path / "run")
    roles = {
        record.teacher: record.role
        for record in (*directory.records(), *directory.supporting())
        if record.role != "student"
    }
    assert roles == {
        "cnn_8": "teacher",
        "cnn_4 taught by cnn_8": "assistant",
        "mlp_32 taught by cnn_4 taught by cnn_8": "assistant",
        "cnn_2 taught by cnn_8": "assistant",
        "cnn_2 taught by cnn_2 taught by cnn_8": "assistant",
    }
    frame = load(tmp_path / "run")
    assert list(frame.role) == ["teacher", "student", "student"], "assistants are no rows of the table"
    cell = directory.record(takd.id)
    own = cell.durations["train_seconds"]
    chain = [
        directory.record(node.id).durations["train_seconds"] for node in (takd.teacher, takd.teacher.teacher)
    ]
    assert cell.metrics["train_seconds"] == pytest.approx(own + sum(chain))
    assert 0 < cell.metrics["train_time_share"] < 1


def test_a_damaged_assistant_ends_the_run_and_one_that_cannot_teach_fails_its_cells(
    small_suite: Load, tmp_path: Path
) -> None:
    suite = small_suite(
        "methods=[scratch, {name: takd, assistants: [mlp_32]}]",
        "students=[mlp_16]",
        "seeds=[0]",
        "recipe.epochs=1",
        "teachers=[cnn_2]",
    )
    run(suite, tmp_path / "first", teacher_store=tmp_path)
    store = RunDirectory(tmp_path)
    (assistant,) = RunDirectory.open(tmp_path / "first").supporting()
    file = store.folder(assistant.id) / "weights.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + b"x")
    with pytest.raises(SharedFault, match=r"weights\.safetensors: changed since it was recorded"):
        run(suite, tmp_path / "second", teacher_store=tmp_path)
    assert not any(record.role == "student" for record in RunDirectory(tmp_path / "second").records())
    broken = safetensors.torch.load(whole)
    next(iter(broken.values())).fill_(torch.nan)
    content = safetensors.torch.save(broken)
    store.amend(assistant, write_recorded(file, content))  # recorded, and not finite
    outcome = run(suite, tmp_path / "second", teacher_store=tmp_path)
    assert (outcome.ok, outcome.failed) == (1, 1)


def test_an_assistant_that_does_not_exist_is_refused_by_the_plan(small_suite: Load) -> None:
    suite = small_suite("methods=[{name: takd, assistants: [cnm_4]}]")
    with pytest.raises(UserError, match="assistant 'cnm_4': unknown model 'cnm_4'"):
        make_plan(suite)


def test_what_is_kept_of_simkd_is_measured_and_reported(small_suite: Load, tmp_path: Path) -> None:
    suite = small_suite("methods=[scratch, simkd]", "students=[cnn_2]", "seeds=[0]")
    run(suite, tmp_path / "run")
    rows = load(tmp_path / "run").set_index("method")
    # cnn_2 without its head, a projector from 8 to 16 channels by way of 8, and the teacher's head
    head, teacher_head = 8 * 10 + 10, 16 * 10 + 10
    projector = (8 * 8 + 16) + (9 * 8 * 8 + 16) + (8 * 16 + 32)
    trains = rows.params["scratch"] - head + projector
    expected = trains + teacher_head
    assert rows.params["simkd"] == rows.params_nonzero["simkd"] == expected
    assert rows.params_adapter["simkd"] == 0, "the projector is kept, so it is no parameter of training only"
    assert rows.params_trainable["scratch"] == rows.params_training["scratch"] == rows.params["scratch"]
    assert rows.params_trainable["simkd"] == trains, "the teacher's head does not train"
    assert rows.params_training["simkd"] == expected
    assert rows.macs["simkd"] > rows.macs["scratch"]


def test_the_matrix_of_the_crd_tables_is_planned_without_torch() -> None:
    program = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "sys.argv = ['kdbench', 'plan', 'cifar100-crd', '--json']\n"
        "from kdbench.cli import main\n"
        "main()\n"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr[-500:]
    rows = json.loads(found.stdout)
    assert {"teacher", "student", "method", "seed", "cohort"} <= set(rows[0])
    assert len({(row["teacher"], row["student"]) for row in rows}) == 13
    methods = {row["method"] for row in rows if row["status"] == "planned"}
    assert len(methods) >= 28
    skipped = {row["method"] for row in rows if row["status"] == "skipped"}
    assert skipped == {"fsp"} and all("equal channels" in row["reason"] for row in rows if row["reason"])
    assert {row["seed"] for row in rows} == {0, 1, 2}


def test_the_index_of_the_zoo_is_what_building_every_model_gives() -> None:
    stored = read_json(FILE)
    names = [name for family in families().values() for name in family.examples]
    assert list(stored) == names
    assert all(indexed(name) for name in names), "the code of a model has changed: run make zoo"
    # Building all of them takes long; the models themselves have golden counts of their own.
    some = {"cnn_4", "resnet8", "wrn_16_1", "vgg8", "MobileNetV2", "vit_64_4", "mlp_32"}
    for name, entry in entries(some):
        assert json.loads(json.dumps(entry)) == stored[name], f"{name}: run make zoo"


class Stop(Progress):
    """Stops a run as Ctrl-C does, after the first epoch of the students."""

    def __init__(self) -> None:
        self.students = False

    def begin(self, label: str, total: int, unit: str) -> None:
        self.students = "students" in label

    def advance(self, done: int, detail: str = "") -> None:
        if self.students:
            raise KeyboardInterrupt


def test_a_stopped_run_goes_on_with_other_methods(small_suite: Load, tmp_path: Path) -> None:
    few = ("students=[mlp_16]", "seeds=[0]", "teachers.0.recipe.epochs=1")
    with pytest.raises(KeyboardInterrupt):
        run(small_suite("methods=[{name: kd, temperature: 2}]", *few), tmp_path / "run", progress=Stop())
    assert list((tmp_path / "run" / "cohorts").glob("*.pt"))
    outcome = run(small_suite("methods=[{name: kd, temperature: 3}]", *few), tmp_path / "run")
    assert (outcome.ok, outcome.failed) == (1, 0)
    assert not list((tmp_path / "run" / "cohorts").glob("*.pt"))


NET = """
from torch import nn
def net(in_channels, num_classes):
    return nn.Sequential(nn.Conv2d(in_channels, WIDTH, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(WIDTH, num_classes))
"""


def test_a_cell_follows_the_code_of_its_assistants(small_suite: Load, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    suite = small_suite(f"methods=[scratch, {{name: takd, assistants: ['{file}:net']}}]", "seeds=[0]")
    found = []
    for width in (4, 8):
        file.write_text(NET.replace("WIDTH", str(width)))
        found.append({(cell.student, cell.node.step.method.name): cell.id for cell in make_plan(suite).cells})
    before, after = found
    assert {key for key in before if before[key] != after[key]} == {("mlp_16", "takd"), ("cnn_2", "takd")}


def test_generations_of_a_student_with_first_weights_are_trained(small_suite: Load, tmp_path: Path) -> None:
    model = build_model("cnn_2", inputs=InputSpec.image((1, 8, 8)), num_classes=10)
    torch.save(model.state_dict(), tmp_path / "first.pth")
    suite = small_suite(
        f"students=[{{name: cnn_2, checkpoint: {tmp_path / 'first.pth'}}}]",
        "methods=[born_again]",
        "seeds=[0]",
        "recipe.epochs=1",
    )
    assert run(suite, tmp_path / "run").ok == 1
    (assistant,) = RunDirectory(tmp_path / "run").supporting()
    assert assistant.role == "assistant"
    assert assistant.durations["train_seconds"] > 0
    assert assistant.epochs == 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("pairs=[]", "methods=[{name: kd, label: a}, {name: dkd, label: a}]"), "two methods are called 'a'"),
        (("pairs=[]", "teachers.1={name: cnn_8, label: cnn_2}"), "'cnn_2' is a teacher and another student"),
        (("pairs.1.teacher=cnn_4",), "teacher 'cnn_8' is in no pair"),
        (("methods.1.temperature=[1, 2]",), "its name shows another (kd(temperature=1))"),
    ],
)
def test_what_tables_could_not_tell_apart_is_refused(
    paired: Load, overrides: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UserError) as caught:
        make_plan(paired(*overrides))
    assert message in str(caught.value) and "\n" not in str(caught.value)
