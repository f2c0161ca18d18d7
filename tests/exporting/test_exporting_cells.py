"""Which cell is exported, and what is refused before anything is written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch

from kdbench.data import Batches, load_dataset
from kdbench.errors import UserError
from kdbench.exporting import find_cell, trained_student
from kdbench.runner import run
from kdbench.store import RunDirectory, read_json
from kdbench.suite import Suite
from kdbench.training.evaluation import predict
from tests.conftest import SMALL
from tests.documents import edit, write_document
from tests.exporting.conftest import cells
from tests.runner.observed import Listening


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """Return a copy of the run, in the folder of runs, that a test may damage."""
    shutil.copytree(finished, tmp_path / "runs" / "small")
    return tmp_path / "runs" / "small"


def test_a_cell_is_found_by_its_folder_by_its_run_and_among_all_runs(
    finished: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = cells(finished)["cnn_2", "scratch"]
    monkeypatch.chdir(copy.parents[1])
    for found in (find_cell(f"{copy}/nodes/{id}"), find_cell(f"runs/small/nodes/{id}/"), find_cell(id, copy)):
        assert (found[0].path.resolve(), found[1]) == (copy, id)
    assert find_cell(id)[0].path == Path("runs/small")
    shutil.copytree(copy, "runs/twin")
    with pytest.raises(UserError, match=r"is in several runs \(runs/small, runs/twin\): name one with --run"):
        find_cell(id)


def test_an_unknown_cell_is_answered_with_the_nearest(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = cells(finished)["cnn_2", "scratch"]
    wrong = id[:-1] + ("0" if id[-1] != "0" else "1")
    for arguments in ((wrong, finished), (f"{finished}/nodes/{wrong}", None)):
        with pytest.raises(UserError, match=rf"unknown cell '{wrong}' in .*\. Did you mean '{id}'\?"):
            find_cell(*arguments)
    with pytest.raises(UserError, match=r"unknown cell 'scratch' .* list the ids"):
        find_cell("scratch", finished)
    with pytest.raises(UserError, match="no run directory at"):
        find_cell(id, tmp_path / "none")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=rf"no run in runs/ to look for cell '{id}' in: name one with --run"):
        find_cell(id)


def test_the_card_says_what_a_user_needs(finished: Path) -> None:
    id = cells(finished)["cnn_2", "scratch"]
    run = RunDirectory.open(finished)
    student = trained_student(run, id)
    record = run.record(id)
    assert record is not None
    assert student.card["input_shape"] == [1, 8, 8]
    assert student.card["classes"] == [str(digit) for digit in range(10)]
    assert student.card["top1"] == record.metrics["top1"]
    assert (student.card["student"], student.card["method"], student.card["epoch"]) == ("cnn_2", "scratch", 2)
    assert 0 < student.card["mean"][0] < 1 and 0 < student.card["std"][0] < 1
    assert not student.model.training
    best = trained_student(run, id, best=True)
    assert (best.card["epoch"], best.card["top1"]) == (
        record.best_epoch,
        record.metrics["top1_best_val"],
    )


def test_a_run_from_before_the_normalisation_was_kept_reads_the_data_again(copy: Path) -> None:
    id = cells(copy)["cnn_2", "scratch"]
    before = trained_student(RunDirectory(copy), id).card
    manifest = read_json(copy / "run.json")
    del manifest["normalisation"]
    write_document(copy / "run.json", manifest)
    assert trained_student(RunDirectory(copy), id).card == before
    file = copy / "nodes" / id / "record.json"
    edit(file, provenance=read_json(file)["provenance"] | {"data_checksum": "another"})
    with pytest.raises(UserError, match=r"is not what cell .* was trained on.*--data-root"):
        trained_student(RunDirectory(copy), id)


def test_weights_that_changed_are_not_exported(copy: Path) -> None:
    id = cells(copy)["cnn_2", "scratch"]
    weights = copy / "nodes" / id / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=r"weights\.safetensors: changed since it was recorded"):
        trained_student(RunDirectory(copy), id)


def test_a_cell_of_an_earlier_plan_is_told_from_one_that_does_not_exist(copy: Path) -> None:
    id = cells(copy)["cnn_2", "scratch"]
    manifest = copy / "run.json"
    edit(manifest, cells=[cell for cell in read_json(manifest)["cells"] if cell != id])
    with pytest.raises(UserError, match="is of an earlier plan"):
        find_cell(id, copy)


def test_what_simkd_keeps_has_the_logits_of_the_record(finished: Path) -> None:
    """The model that is rebuilt is the one that was evaluated, not the student alone."""
    id = cells(finished)["cnn_2", "simkd"]
    student = trained_student(RunDirectory.open(finished), id)
    assert student.entry.name == "kdbench.models.reuse:build"
    data = load_dataset("digits", validation_fraction=0.2, args={"limit": 300, "limit_test": 200})
    found = predict(student.model, Batches(data.test, data.mean, data.std, device=torch.device("cpu")))
    saved = safetensors.torch.load_file(finished / "nodes" / id / "predictions.safetensors")["test_logits"]
    torch.testing.assert_close(found, saved, rtol=1e-4, atol=1e-5)


def test_weights_that_are_not_there_are_missed_in_one_line(copy: Path) -> None:
    id = cells(copy)["cnn_2", "scratch"]
    (copy / "nodes" / id / "weights.safetensors").unlink()
    with pytest.raises(UserError, match=r"no weights at .*weights\.safetensors \(a published run has none\)"):
        trained_student(RunDirectory(copy), id)


def test_a_cell_without_a_model_says_why(copy: Path) -> None:
    id = cells(copy)["cnn_2", "scratch"]
    file = copy / "nodes" / id / "record.json"
    edit(file, status="failed", reason="diverged: the loss became NaN")
    with pytest.raises(UserError, match="has no model, it is failed: diverged: the loss became NaN"):
        trained_student(RunDirectory(copy), id)
    file.unlink()
    with pytest.raises(UserError, match=r"is not finished: run its suite again"):
        trained_student(RunDirectory(copy), id)


def test_code_that_has_changed_since_is_refused(finished: Path) -> None:
    id = cells(finished)["mine", "scratch"]
    file = finished.parent / "mine.py"
    before = file.read_text()
    try:
        file.write_text(before + "\n# changed\n")
        with pytest.raises(UserError, match=r"the code of model '.*mine\.py:net' has changed since"):
            trained_student(RunDirectory.open(finished), id)
    finally:
        file.write_text(before)
    assert trained_student(RunDirectory.open(finished), id).model is not None


def test_a_run_that_moves_with_its_files_still_exports_what_a_method_builds(tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "net.py").write_text(
        "from torch import nn\n\n\ndef build(inputs, num_classes):\n"
        "    return nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1),\n"
        "                         nn.Flatten(), nn.Linear(3, num_classes))\n"
    )
    (here / "small.yaml").write_text(SMALL)
    overrides = (
        "students=[{name: 'net.py:build', label: net}]",
        "methods=[simkd]",
        "seeds=[0]",
        "recipe.epochs=1",
    )
    outcome = run(Suite.load(here / "small.yaml", overrides), here / "run")
    assert (outcome.ok, outcome.failed) == (1, 0)
    there = here.rename(tmp_path / "there")
    # The suite says where its files are now; what is finished stays as it is.
    heard = Listening()
    assert run(Suite.load(there / "small.yaml", overrides), there / "run", progress=heard).ok == 1
    assert heard.stages == []
    directory = RunDirectory(there / "run")
    (record,) = (record for record in directory.records() if record.role == "student")
    stored = safetensors.torch.load_file(directory.folder(record.id) / "weights.safetensors")
    weights = trained_student(directory, record.id).model.state_dict()
    assert weights.keys() == stored.keys()
    assert all(torch.equal(value, stored[name]) for name, value in weights.items())
