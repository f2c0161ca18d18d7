"""Runs of before records had schema 2: read, compared, scored anew, gone on with, without any training."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner

from kdbench.analysis.summary import summarise
from kdbench.cli import app
from kdbench.data import Batches, load_dataset
from kdbench.errors import UserError
from kdbench.exporting import trained_student
from kdbench.runner import run
from kdbench.runner.amendments.rescoring import rescore
from kdbench.store import RunDirectory, check, load, read_json
from kdbench.suite import Suite
from kdbench.suite.schema import DatasetEntry
from kdbench.training.evaluation import predict
from tests.conftest import SMALL
from tests.documents import write_document
from tests.runner.first_schema import write_as_first_schema
from tests.runner.observed import Listening, results

OVERRIDES = (
    "students=[cnn_2]",
    "methods=[scratch, simkd, {name: takd, assistants: [mlp_16]}]",
    "seeds=[0]",
    "controls={independent_teacher: true}",
    "robustness={corruptions: [contrast], severities: [2], examples: 50}",
    "threads=1",
)


@pytest.fixture(scope="module")
def suite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("suite") / "small.yaml"
    file.write_text(SMALL)
    return file


@pytest.fixture(scope="module")
def finished(suite_file: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Return the run as it is written today, which no test may change."""
    path = run(Suite.load(suite_file, OVERRIDES), tmp_path_factory.mktemp("today") / "run").path
    return RunDirectory(path)


@pytest.fixture
def old(finished: RunDirectory, tmp_path: Path) -> RunDirectory:
    copy = RunDirectory(Path(shutil.copytree(finished.path, tmp_path / "run")))
    write_as_first_schema(copy)
    return copy


def stamps(run: RunDirectory) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in run.path.glob("*/*/*.safetensors")}


def test_it_is_read_and_compared_like_one_of_today(finished: RunDirectory, old: RunDirectory) -> None:
    assert {path.parent.parent.name for path in stamps(old)} == {"teachers", "cells"}
    assert load(old.path).equals(load(finished.path)) and check(old.path) == []
    assert [record.rests_on for record in old.records()] == [record.rests_on for record in finished.records()]
    assert {record.id for record in old.supporting()} == {record.id for record in finished.supporting()}
    assert summarise(old.path).rows == summarise(finished.path).rows
    shown = [CliRunner().invoke(app, ["compare", str(one.path), "--json"]) for one in (old, finished)]
    assert [result.exit_code for result in shown] == [0, 0] and shown[0].stdout == shown[1].stdout


def test_it_is_scored_anew_where_it_lies(finished: RunDirectory, old: RunDirectory) -> None:
    before = stamps(old)
    assert rescore(old.path) == 6, "teacher, three students, assistant, independent teacher"
    assert results(old.path) == results(finished.path)
    assert stamps(old) == before and check(old.path) == []


def test_it_goes_on_without_training(finished: RunDirectory, old: RunDirectory, suite_file: Path) -> None:
    heard, before = Listening(), stamps(old)
    assert run(Suite.load(suite_file, OVERRIDES), old.path, progress=heard).ok == 3
    assert heard.stages == []
    assert stamps(old) == before and results(old.path) == results(finished.path)
    assert not list(old.path.glob("nodes/*/record.json")) and check(old.path) == []
    amended = [record.amendments for record in old.records()]
    assert amended == [record.amendments for record in finished.records()]


def test_what_a_grown_suite_adds_learns_from_the_old_teacher(
    finished: RunDirectory, old: RunDirectory, suite_file: Path
) -> None:
    heard, before = Listening(), stamps(old)
    grown = Suite.load(suite_file, [*OVERRIDES, "seeds=[0, 1]", "methods=[scratch, kd]"])
    assert run(grown, old.path, progress=heard).ok == 4
    assert not any(label.startswith("teacher") for label, _ in heard.stages)
    assert before.items() <= stamps(old).items() and check(old.path) == []
    homes = {(record.home, record.method) for record in old.records()}
    assert homes == {("teachers", None), ("cells", "scratch"), ("nodes", "scratch"), ("nodes", "kd")}


def test_its_teacher_serves_other_runs(old: RunDirectory, suite_file: Path, tmp_path: Path) -> None:
    heard = Listening()
    suite = Suite.load(suite_file, ["students=[mlp_16]", "methods=[kd]", "seeds=[3]"])
    outcome = run(suite, tmp_path / "other", teacher_store=old.path, progress=heard)
    assert outcome.ok == 1 and not any(label.startswith("teacher") for label, _ in heard.stages)
    assert check(outcome.path) == []
    teacher = next(RunDirectory(outcome.path).records())
    assert (teacher.home, teacher.weights()) == ("nodes", "teacher.safetensors")


def test_its_cells_are_exported(old: RunDirectory) -> None:
    data = load_dataset("digits", validation_fraction=0.2, args={"limit": 300, "limit_test": 200})
    test = Batches(data.test, data.mean, data.std, device=torch.device("cpu"))
    for record in old.records():
        if record.role == "student":
            assert "network" not in record.config
            saved = safetensors.torch.load_file(old.folder(record.id) / "predictions.safetensors")
            logits = predict(trained_student(old, record.id).model, test)
            torch.testing.assert_close(logits, saved["test_logits"], rtol=1e-4, atol=1e-5)


def test_a_schema_of_a_later_version_is_refused_in_one_line(old: RunDirectory) -> None:
    file = next(old.path.glob("cells/*/record.json"))
    file.write_text(file.read_text().replace('"schema": 1', '"schema": 3'))
    with pytest.raises(
        UserError, match=r"^[^\n]*/record\.json has schema 3, this kdbench reads up to 2: [^\n]*$"
    ):
        load(old.path)


def test_heads_that_were_called_tasks_are_read_as_heads(old: RunDirectory) -> None:
    file = next(old.path.glob("cells/*/record.json"))
    content = read_json(file)
    data = content["config"]["dataset"]
    heads = data.pop("heads", {}) or {"coarse": 0.5}
    write_document(file, content | {"config": content["config"] | {"dataset": data | {"tasks": heads}}})
    read = old.record(content["id"]).config["dataset"]
    assert read["heads"] == heads and "tasks" not in read
    fields = {name: value for name, value in read.items() if name in DatasetEntry.model_fields}
    assert DatasetEntry.model_validate(fields).heads == heads
