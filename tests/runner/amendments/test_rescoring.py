"""Re-scoring: every metric anew from stored predictions, on runs that were made before the metric was."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner

from kdbench.cli import app, main
from kdbench.errors import UserError
from kdbench.inputs import InputSpec
from kdbench.metrics import METRICS, catalogue, metric
from kdbench.metrics.features import cka_pooled, gram_products
from kdbench.metrics.targets import teacher_entropy_norm
from kdbench.models import build_model
from kdbench.progress import Progress
from kdbench.runner import run
from kdbench.runner.amendments.rescoring import rescore
from kdbench.store import Record, RunDirectory, check, load, sha256_of, write_json
from kdbench.suite import Suite
from kdbench.targets import find_target
from tests.conftest import SMALL
from tests.documents import write_document
from tests.registries import reopen

NEW = (
    "aurc",
    "cka_pooled",
    "kl_non_target",
    "teacher_entropy_norm",
    "aurc_best_val",
    "kl_non_target_best_val",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    (folder / "small.yaml").write_text(
        SMALL.replace("seeds: [0, 1]", "seeds: [0]").replace("[mlp_16, cnn_2]", "[mlp_16]")
    )
    return run(Suite.load(folder / "small.yaml"), folder / "run").path


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> RunDirectory:
    """A copy of the run, which a test may change."""
    shutil.copytree(finished, tmp_path / "run")
    return RunDirectory(tmp_path / "run")


def folders(directory: RunDirectory) -> list[Path]:
    return [path.parent for path in sorted(directory.path.glob("*/*/record.json"))]


def contents(directory: RunDirectory) -> dict[str, str]:
    return {str(path): sha256_of(path) for path in sorted(directory.path.rglob("*")) if path.is_file()}


def age(directory: RunDirectory, *, features: bool) -> None:
    """Take out of a run what versions before these metrics did not write."""
    write_json(
        directory.path / "columns.json",
        [column.as_json() for name, column in directory.columns().items() if name not in NEW],
    )
    for folder in folders(directory):
        record = json.loads((folder / "record.json").read_text())
        for known in (record["metrics"], record["reasons"]):
            for name in NEW:
                known.pop(name, None)
        if not features:
            file = folder / "predictions.safetensors"
            tensors = safetensors.torch.load_file(file)
            del tensors["test_pooled"]
            safetensors.torch.save_file(tensors, file)
            record["files"][file.name] = {"sha256": sha256_of(file), "bytes": file.stat().st_size}
        write_document(folder / "record.json", record)


def cell(directory: RunDirectory, method: str) -> Record:
    return next(record for record in directory.records() if record.method == method)


def test_a_run_scores_what_its_predictions_hold(finished: Path) -> None:
    directory = RunDirectory(finished)
    record, (teacher, *_) = cell(directory, "kd(temperature=2)"), directory.records()
    mine, theirs = (
        safetensors.torch.load_file(directory.folder(one.id) / "predictions.safetensors")
        for one in (record, teacher)
    )
    assert mine["test_pooled"].shape == (200, 16) and mine["test_pooled"].dtype == torch.float32
    products = gram_products(mine["test_pooled"], theirs["test_pooled"])
    assert record.metrics["cka_pooled"] == pytest.approx(cka_pooled(products), rel=1e-12)
    entropy = teacher_entropy_norm(theirs["test_logits"], torch.tensor(2.0))
    assert record.metrics["teacher_entropy_norm"] == pytest.approx(entropy, rel=1e-12)
    assert len(record.tables["class_delta"]) == 10
    assert "cka_pooled_best_val" not in directory.columns()


def test_reasons_of_what_a_run_cannot_score(finished: Path) -> None:
    directory = RunDirectory(finished)
    scratch, (teacher, *_) = cell(directory, "scratch"), directory.records()
    assert (
        scratch.reasons["teacher_entropy_norm"] == "scratch has no targets that soften the teacher's logits"
    )
    for name in ("agreement", "cka_pooled", "teacher_entropy_norm", "worst_class_drop", "kl_target_best_val"):
        assert teacher.metrics[name] is None
        assert teacher.reasons[name] == "it is the teacher"
    assert "class_delta" not in teacher.tables
    for record in directory.records():
        assert catalogue(find_target("single_label")).keys() <= record.metrics.keys()
        null = {name for name, value in record.metrics.items() if value is None}
        assert null <= record.reasons.keys()


def test_scoring_again_gives_the_same(finished: Path, copied: RunDirectory) -> None:
    assert rescore(copied.path) == 3
    assert check(copied.path) == []
    for before, after in zip(RunDirectory(finished).records(), copied.records(), strict=True):
        assert after.provenance.pop("rescored")["kdbench"] in after.amendments.pop("scores")
        assert after == before
    assert copied.columns() == RunDirectory(finished).columns()


def test_a_run_from_before_the_metrics_gets_them(finished: Path, copied: RunDirectory) -> None:
    age(copied, features=True)
    assert not set(NEW) & copied.columns().keys()
    rescore(copied.path)
    assert copied.columns() == RunDirectory(finished).columns()
    original, again = load(finished), load(copied.path)
    assert again.equals(original)
    assert (copied.path / "results.csv").read_text() == (finished / "results.csv").read_text()
    assert check(copied.path) == []


def test_a_run_from_before_outcomes_gets_them(finished: Path, copied: RunDirectory) -> None:
    before = {folder.name: (folder / "outcomes.parquet").read_bytes() for folder in folders(copied)}
    for folder in folders(copied):
        record = json.loads((folder / "record.json").read_text())
        (folder / "outcomes.parquet").unlink()
        del record["files"]["outcomes.parquet"]
        write_document(folder / "record.json", record)
    rescore(copied.path)
    assert {folder.name: (folder / "outcomes.parquet").read_bytes() for folder in folders(copied)} == before
    assert not check(copied.path)


def test_predictions_without_features_have_no_cka(copied: RunDirectory) -> None:
    age(copied, features=False)
    costs = cell(copied, "scratch").metrics["params"]
    rescore(copied.path)
    record = cell(copied, "scratch")
    assert record.metrics["cka_pooled"] is None
    assert record.reasons["cka_pooled"].startswith("its predictions hold no features")
    assert record.metrics["aurc"] is not None
    assert record.metrics["params"] == costs > 0


def test_a_metric_of_ones_own_is_scored_too(copied: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    reopen(METRICS, monkeypatch)

    @metric("mean_label", title="Mean label", family="zoo", direction="none", range="[0, ∞)", source="test")
    def mean_label(labels: torch.Tensor) -> float:
        return float(labels.double().mean())

    rescore(copied.path)
    assert load(copied.path)["mean_label"].nunique() == 1
    assert "mean_label_best_val" not in copied.columns(), "it does not follow the student's epoch"


def test_a_users_own_method_keeps_the_temperature_it_ran_with(copied: RunDirectory) -> None:
    record = cell(copied, "kd(temperature=2)")
    entropy = record.metrics["teacher_entropy_norm"]
    config = record.config | {"method_source": "a hash"}
    copied.write(replace(record, method_name="my_kd", config=config))
    rescore(copied.path)
    assert copied.record(record.id).metrics["teacher_entropy_norm"] == entropy


def test_failed_cells_stay_as_they_are(copied: RunDirectory) -> None:
    record = replace(cell(copied, "scratch"), status="failed", reason="by design", metrics={}, reasons={})
    copied.write(record)
    assert rescore(copied.path) == 2
    assert copied.record(record.id) == record


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_without_predictions_nothing_changes(
    copied: RunDirectory, role: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied.folder(next(record.id for record in copied.records() if record.role == role))
    (folder / "predictions.safetensors").unlink()
    before = contents(copied)
    monkeypatch.setattr("sys.argv", ["kdbench", "report", str(copied.path), "--rescore"])
    with pytest.raises(SystemExit) as exit:
        main()
    assert exit.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"nodes/{folder.name}/predictions.safetensors is missing" in line
    assert line.endswith("Run the suite to make them.")
    assert contents(copied) == before


def test_changed_predictions_are_refused(copied: RunDirectory) -> None:
    folder = copied.folder(cell(copied, "scratch").id)
    with (folder / "predictions.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(UserError, match=r"predictions\.safetensors: changed since it was recorded"):
        rescore(copied.path)


def test_damage_to_other_files_is_not_papered_over(copied: RunDirectory) -> None:
    folder = copied.folder(cell(copied, "scratch").id)
    with (folder / "weights.safetensors").open("ab") as file:
        file.write(b"x")
    rescore(copied.path)
    (finding,) = check(copied.path)
    assert finding.path.endswith("weights.safetensors")


def test_a_run_in_use_is_left_alone(copied: RunDirectory) -> None:
    with copied.lock(), pytest.raises(UserError, match="another kdbench process is working on"):
        rescore(copied.path)


def test_the_command_scores_before_it_reports(copied: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    age(copied, features=True)
    known: list[set[str]] = []

    def write_report(
        path: Path, out: Path | None, page: str, *, failed: object, progress: Progress, sections: object
    ) -> Path:
        known.append(set(RunDirectory(path).columns()))
        return copied.path / "report" / "index.html"

    monkeypatch.setattr("kdbench.report.write_report", write_report)
    for arguments in ([], ["--rescore"]):
        result = CliRunner().invoke(app, ["report", str(copied.path), *arguments], catch_exceptions=False)
        assert result.exit_code == 0
    assert "Scored 3 records anew." in result.output
    assert [set(NEW) <= columns for columns in known] == [False, True]


def test_a_pruned_student_from_a_checkpoint_is_scored_anew(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build_model("cnn_2", inputs=InputSpec.image((1, 8, 8)), num_classes=10)
    safetensors.torch.save_file(model.state_dict(), tmp_path / "small.safetensors")
    (tmp_path / "small.yaml").write_text(SMALL)
    overrides = (
        f"students=[{{name: cnn_2, label: loaded, checkpoint: '{tmp_path}/small.safetensors'}}]",
        "methods=[{chain: [prune_magnitude, kd], label: again}, prune_magnitude]",
        "seeds=[0]",
        "recipe.epochs=1",
        "teachers.0.recipe.epochs=1",
    )
    outcome = run(Suite.load(tmp_path / "small.yaml", overrides), tmp_path / "run")
    assert (outcome.ok, outcome.failed) == (2, 0)
    directory = RunDirectory(outcome.path)
    before = [record.metrics for record in directory.records()]
    ran = CliRunner().invoke(app, ["report", str(outcome.path), "--rescore"], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    assert [record.metrics for record in directory.records()] == before and check(outcome.path) == []
