"""A run end to end: records, resumption, failures, users' own parts, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from PIL import Image
from rich.console import Console
from sklearn.metrics import accuracy_score, cohen_kappa_score, log_loss
from typer.testing import CliRunner

import kdbench
from kdbench.analysis.summary import summarise
from kdbench.cli import app
from kdbench.cli.console import ConsoleProgress
from kdbench.errors import UserError
from kdbench.inputs import InputSpec
from kdbench.methods import find_method
from kdbench.methods.distillers.scratch import Scratch
from kdbench.models import build_model
from kdbench.plan import make_plan
from kdbench.progress import Progress
from kdbench.report.claims import how_to_read
from kdbench.runner import run
from kdbench.runner.records import relabel
from kdbench.runner.shelf import default_store
from kdbench.store import RunDirectory, check, load
from kdbench.suite import Suite
from tests.conftest import SMALL

Load = Callable[..., Suite]


class Listening(Progress):
    def __init__(self) -> None:
        self.stages: list[str] = []
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.plans: list[tuple[int, ...]] = []

    def plan(self, cohorts: int, cells: int, done: int, failed: int = 0, skipped: int = 0) -> None:
        self.plans.append((cells, done, failed, skipped))

    def begin(self, label: str, total: int, unit: str) -> None:
        self.stages.append(label)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run directory of the small suite, run once for this file."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "small.yaml").write_text(SMALL)
    outcome = run(Suite.load(folder / "small.yaml"), folder / "run")
    assert (outcome.ok, outcome.failed, outcome.skipped) == (8, 0, 0)
    return outcome.path


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="told by Linux only")
def test_a_method_that_holds_much_shows_in_the_memory_of_its_cohort(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = 256 * 2**20
    losses = Scratch.losses

    def wasteful(self: Any, student: Any, teacher: Any, batch: Any) -> Any:
        torch.ones(held // 4)
        return losses(self, student, teacher, batch)

    file = tmp_path / "small.yaml"
    file.write_text(SMALL)
    overrides = ("methods=[scratch]", "students=[mlp_16]", "seeds=[0]")
    peaks = []
    for name in ("plain", "wasteful"):
        run(Suite.load(file, overrides), tmp_path / name / "run")
        (cell,) = (r for r in RunDirectory(tmp_path / name / "run").records() if r.role == "student")
        peaks.append(cell.metrics["cohort_peak_bytes"])
        monkeypatch.setattr(Scratch, "losses", wasteful)
    assert peaks[1] - peaks[0] == pytest.approx(held, rel=0.1)


def test_a_finished_run_is_complete(finished: Path) -> None:
    assert check(finished) == []
    frame = load(finished)
    assert len(frame) == 9 and set(frame.status) == {"ok"}
    assert list(frame.role)[:1] == ["teacher"]
    assert (finished / "results.csv").is_file() and (finished / "results.parquet").is_file()
    assert not list(finished.glob("cohorts/*.pt")), "checkpoints of finished cohorts are removed"
    assert not list(finished.rglob("*.partial"))


def test_every_number_is_there_or_has_its_reason(finished: Path) -> None:
    run_directory = RunDirectory.open(finished)
    columns = run_directory.columns()
    for record in run_directory.records():
        if record.role == "student":
            assert set(record.metrics) == set(columns)
        for name, value in record.metrics.items():
            assert (value is None) == (name in record.reasons), (
                record.role,
                name,
                record.reasons.get(name),
            )


def test_scores_can_be_computed_again_from_the_saved_logits(finished: Path) -> None:
    run_directory = RunDirectory.open(finished)
    teacher, *students = run_directory.records()
    theirs = safetensors.torch.load_file(finished / "nodes" / teacher.id / "predictions.safetensors")
    for record in students:
        mine = safetensors.torch.load_file(finished / "nodes" / record.id / "predictions.safetensors")
        outcomes = pd.read_parquet(finished / "nodes" / record.id / "outcomes.parquet")
        assert outcomes["predicted"].tolist() == mine["test_logits"].argmax(1).tolist()
        assert outcomes["label"].tolist() == mine["test_labels"].tolist()
        assert (outcomes["predicted"] == outcomes["label"]).mean() == pytest.approx(record.metrics["top1"])
        labels = mine["test_labels"].numpy()
        probabilities = mine["test_logits"].double().softmax(1).numpy()
        guesses, taught = probabilities.argmax(1), theirs["test_logits"].argmax(1).numpy()
        metrics = record.metrics
        assert metrics["top1"] == pytest.approx(accuracy_score(labels, guesses))
        assert metrics["nll"] == pytest.approx(log_loss(labels, probabilities))
        assert metrics["agreement"] == pytest.approx(np.mean(guesses == taught))
        assert metrics["cohen_kappa"] == pytest.approx(cohen_kappa_score(guesses, taught))
        train = accuracy_score(mine["train_labels"], mine["train_logits"].argmax(1))
        assert metrics["generalization_gap"] == pytest.approx(train - metrics["top1"])
        best = accuracy_score(labels, mine["test_best_logits"].argmax(1))
        assert metrics["top1_best_val"] == pytest.approx(best)


def test_saved_weights_give_the_saved_logits(finished: Path) -> None:
    record = next(record for record in RunDirectory.open(finished).records() if record.student == "cnn_2")
    folder = finished / "nodes" / record.id
    model = build_model("cnn_2", inputs=InputSpec.image((1, 8, 8)), num_classes=10)
    model.load_state_dict(safetensors.torch.load_file(folder / "weights.safetensors"))
    assert sum(p.numel() for p in model.parameters()) == record.metrics["params"]
    assert record.metrics["params_adapter"] == 0


def test_provenance_says_what_a_reader_needs_and_nothing_private(finished: Path) -> None:
    for record in RunDirectory.open(finished).records():
        stamp = record.provenance
        assert {"kdbench", "machine", "versions", "data_checksum", "device", "precision"} <= set(stamp)
        assert stamp["versions"]["torch"] == torch.__version__.split("+")[0] or stamp["versions"]["torch"]
        text = json.dumps(record.as_json())
        assert str(Path.home()) not in text and os.uname().nodename not in text


def test_a_second_run_does_nothing_again(finished: Path, small_suite: Load) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.glob("*/*/record.json")}
    heard = Listening()
    outcome = run(small_suite(), finished, progress=heard)
    assert outcome.ok == 8 and heard.stages == []
    assert before == {path: path.stat().st_mtime_ns for path in finished.glob("*/*/record.json")}


def test_a_grown_suite_runs_only_what_is_new(finished: Path, small_suite: Load, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    before = {path: path.stat().st_mtime_ns for path in copy.glob("nodes/*/predictions.safetensors")}
    heard = Listening()
    outcome = run(small_suite("students=[mlp_16, cnn_2, gru_4]"), copy, progress=heard)
    assert outcome.ok == 12
    after = {path: path.stat().st_mtime_ns for path in copy.glob("nodes/*/predictions.safetensors")}
    assert len(after) == 1 + 12
    assert [stage for stage in heard.stages if "students" in stage] == ["2 students", "2 students"]
    assert not any("teacher" in stage for stage in heard.stages)
    frame = load(copy)
    assert frame.params.notna().all() and before.items() <= after.items()


@dataclass
class Remeasured:
    """A run that was carried out again with other measuring settings and fewer seeds."""

    path: Path
    before: dict[str, Any]
    notes: list[str]


@pytest.fixture(scope="module")
def remeasured(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Remeasured:
    copy = tmp_path_factory.mktemp("remeasured") / "run"
    shutil.copytree(finished, copy)
    before, heard = RunDirectory(copy).manifest(), Listening()
    suite = Suite.load(finished.parent / "small.yaml", ["measure.batch_sizes=[3]", "seeds=[0]"])
    run(suite, copy, progress=heard)
    return Remeasured(copy, before, heard.notes)


def test_other_measuring_settings_replace_the_columns_of_a_finished_run(remeasured: Remeasured) -> None:
    directory = RunDirectory(remeasured.path)
    columns = set(directory.columns())
    assert "latency_cpu_b3_p50_ms" in columns and "latency_cpu_b256_p50_ms" not in columns
    for record in directory.records():
        assert {"latency_cpu_b3_p50_ms"} <= record.metrics.keys()
        assert "latency_cpu_b256_p50_ms" not in record.metrics.keys() | record.reasons.keys()
        null = {name for name, value in record.metrics.items() if value is None}
        assert null == record.reasons.keys()
    before, after = remeasured.before, directory.manifest()
    assert after["seeds"] == [0] and len(after["cells"]) == 4
    assert after["sizes"] == before["sizes"] and after["started"] == before["started"]


def test_measuring_anew_leaves_no_finding(remeasured: Remeasured) -> None:
    assert check(remeasured.path) == []


@pytest.mark.parametrize("name", ["weights.safetensors", "history.csv", "outcomes.parquet"])
def test_nothing_is_built_on_damage(finished: Path, tmp_path: Path, name: str) -> None:
    copy = Path(shutil.copytree(finished, tmp_path / "run"))
    cell = next(record for record in RunDirectory(copy).records() if record.role == "student")
    file = copy / "nodes" / cell.id / name
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*") if path.is_file()}
    suite = Suite.load(finished.parent / "small.yaml", ["measure.batch_sizes=[3]", "seeds=[0]"])
    with pytest.raises(UserError, match=f"{name}: changed since it was recorded"):
        run(suite, copy)
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*") if path.is_file()} == before


def test_fewer_seeds_leave_the_others_listed_and_told(
    remeasured: Remeasured, finished: Path, small_suite: Load, tmp_path: Path
) -> None:
    left = set(remeasured.before["cells"]) - set(RunDirectory(remeasured.path).manifest()["cells"])
    earlier = pd.read_csv(remeasured.path / "results_earlier.csv")
    assert set(earlier.id) == left and set(earlier.seed) == {1} and earlier.top1.notna().all()
    (told,) = (note for note in remeasured.notes if "earlier" in note)
    assert told.startswith("Not shown: 4 finished cells of earlier plans")
    assert told in how_to_read(summarise(remeasured.path), [])
    copy, heard = Path(shutil.copytree(finished, tmp_path / "run")), Listening()
    run(small_suite("seeds=[1]"), copy)
    run(small_suite(), copy, progress=heard)
    assert load(copy).equals(load(finished)) and heard.stages == []
    assert not (copy / "results_earlier.csv").exists()


def test_a_damaged_teacher_teaches_nobody(finished: Path, small_suite: Load, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(finished, tmp_path / "run"))
    (teacher,) = RunDirectory(copy).manifest()["teachers"]
    weights = copy / "nodes" / teacher / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=r"weights\.safetensors: changed since it was recorded"):
        run(small_suite("seeds=[0, 1, 2]"), copy)
    assert len(list(copy.glob("nodes/*/record.json"))) == 1 + 8


def test_labels_are_those_of_the_suite_that_reads(finished: Path, small_suite: Load, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(finished, tmp_path / "run"))
    before = load(copy).set_index("id")
    renamed = small_suite(
        "teachers=[{name: cnn_4, label: big, recipe: {epochs: 4}}]",
        "students=[{name: mlp_16, label: tiny}, cnn_2]",
        "methods=[scratch, {name: kd, label: soft, temperature: 2}]",
    )
    relabel(make_plan(renamed), RunDirectory(copy))
    after = load(copy).set_index("id")
    assert list(after.index) == list(before.index)
    assert set(after.teacher) == {"big"}
    assert after.student.dropna().tolist() == before.student.replace("mlp_16", "tiny").dropna().tolist()
    assert set(after.method.dropna()) == {"scratch", "soft"} and set(after.method_name.dropna()) == {
        "scratch",
        "kd",
    }
    assert after.top1.equals(before.top1) and check(copy) == []


def test_teachers_are_shared_between_suites_under_the_label_of_each(
    finished: Path, small_suite: Load, tmp_path: Path
) -> None:
    heard = Listening()
    other = small_suite(
        "name=other",
        "seeds=[5]",
        "methods=[scratch]",
        "students=[mlp_16]",
        "teachers=[{name: cnn_4, label: big, recipe: {epochs: 4}}]",
    )
    outcome = run(other, tmp_path / "other", progress=heard, teacher_store=finished)
    assert outcome.ok == 1
    assert not any(stage.startswith("teacher") for stage in heard.stages)
    assert any("Top-1 accuracy" in note for note in heard.notes)
    assert load(outcome.path).teacher.tolist() == ["big", "big"] and check(outcome.path) == []
    assert set(load(finished).teacher) == {"cnn_4"}, "the store keeps its own"


def test_a_run_leaves_nothing_beside_it_but_runs_share_their_teachers(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sorted(path.name for path in finished.parent.iterdir()) == ["run", "small.yaml"]
    monkeypatch.chdir(tmp_path)
    assert default_store(Path("runs/first")) == Path("runs")
    assert default_store(tmp_path / "runs" / "second") == tmp_path / "runs"
    for other in (Path("mine/run"), tmp_path / "mine" / "runs" / "third", Path("run")):
        assert default_store(other) == other


def test_results_do_not_depend_on_the_suite_around_a_cell(
    finished: Path, small_suite: Load, tmp_path: Path
) -> None:
    alone = run(
        small_suite("students=[cnn_2]", "seeds=[1]", "methods=[{name: kd, temperature: 2}]"), tmp_path / "a"
    )
    mine = next(record for record in RunDirectory(alone.path).records() if record.role == "student")
    theirs = RunDirectory(finished).record(mine.id)
    assert theirs is not None
    quality = [name for name, column in RunDirectory(finished).columns().items() if column.family != "cost"]
    assert {name: mine.metrics[name] for name in quality} == {name: theirs.metrics[name] for name in quality}


def test_a_diverging_cell_fails_alone_and_can_be_retried(small_suite: Load, tmp_path: Path) -> None:
    suite = small_suite("students=[cnn_2, {name: mlp_16, recipe: {lr: 1.0e+30}}]", "seeds=[0]")
    outcome = run(suite, tmp_path / "run")
    assert (outcome.ok, outcome.failed) == (2, 2)
    frame = load(outcome.path)
    failed = frame[frame.status == "failed"]
    assert set(failed.student) == {"mlp_16"} and failed.reason.str.startswith("diverged").all()
    assert failed.top1.isna().all()
    assert {finding.problem[:6] for finding in check(outcome.path)} == {"failed"}
    assert not list(outcome.path.glob("nodes/*/traceback.txt")), "no exception was the reason"
    heard = Listening()
    assert run(suite, tmp_path / "run", progress=heard).failed == 2 and heard.stages == []
    assert heard.plans == [(4, 2, 2, 0)]
    run(suite, tmp_path / "run", progress=heard, retry_failed=True)
    assert heard.stages == ["2 students"] and heard.plans[1:] == [(4, 2, 0, 0)]


def mistaken(self: Any, *arguments: Any) -> Any:
    raise RuntimeError("my own mistake")


@pytest.mark.parametrize("place", ["losses", "prepare", "diagnose"])
def test_the_traceback_of_a_failed_cell_is_kept(
    finished: Path, small_suite: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr(find_method("kd").distiller, place, mistaken)
    copy = Path(shutil.copytree(finished, tmp_path / "run"))
    outcome = run(small_suite("seeds=[5]", "methods=[kd]"), copy)
    assert (outcome.ok, outcome.failed) == (0, 2)
    for failure, record in zip(summarise(copy).failures, list(RunDirectory(copy).records())[1:], strict=True):
        place = f"nodes/{record.id}/traceback.txt"
        text = (copy / place).read_text()
        assert text.startswith("Traceback") and "in mistaken" in text and "RuntimeError: my own" in text
        assert "my own mistake" in failure.reason and failure.reason.endswith(f"[{place}]")
    first, _ = check(copy)
    assert first.problem == f"failed: {summarise(copy).failures[0].reason}"
    (copy / place).unlink()
    assert check(copy)[-1].path == place


@pytest.mark.parametrize("place", ["losses", "prepare"])
def test_a_teacher_that_fails_is_one_line_and_a_traceback(
    finished: Path, small_suite: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    copy = Path(shutil.copytree(finished, tmp_path / "run"))
    suite = small_suite("methods=[{name: born_again, generations: 2}]", "seeds=[0]")
    with monkeypatch.context() as patched:
        patched.setattr(find_method("born_again").distiller, place, mistaken)
        assert run(suite, copy).failed == 2
    failed = {record.id for record in RunDirectory(copy).records() if record.status == "failed"}
    files = [file for file in copy.glob("nodes/*/traceback.txt") if file.parent.name not in failed]
    assert len(failed) == len(files) == 2, "the cells, and the assistants that were to teach them"
    assert all("RuntimeError: my own mistake" in file.read_text() for file in files)
    reasons = "".join(failure.reason for failure in summarise(copy).failures)
    assert "\n" not in reasons and all(str(file) in reasons for file in files)
    assert run(suite, copy, retry_failed=True).ok == 2
    assert not any(file.exists() for file in files) and check(copy) == []


def test_what_went_before_is_told_by_its_status(capsys: pytest.CaptureFixture[str]) -> None:
    progress = ConsoleProgress(Console(width=200))
    progress.plan(2, 9, 4, 2, 1)
    progress.plan(1, 4, 0)
    first, second = capsys.readouterr().out.splitlines()
    failed = "2 failed before (--retry-failed runs them again)"
    assert first == f"9 cells in 2 cohorts, 4 finished before, {failed}, 1 skipped"
    assert second == "4 cells in 1 cohort"


def test_skipped_cells_have_records(small_suite: Load, tmp_path: Path) -> None:
    suite = small_suite("methods=[scratch, fitnet]", "inapplicable=skip", "seeds=[0]")
    outcome = run(suite, tmp_path / "run")
    assert (outcome.ok, outcome.skipped) == (3, 1)
    assert "no stages" in load(outcome.path).set_index("status").loc["skipped", "reason"]


def test_without_validation_the_best_epoch_is_null_with_its_reason(small_suite: Load, tmp_path: Path) -> None:
    suite = small_suite(
        "dataset.validation_fraction=0", "seeds=[0]", "students=[mlp_16]", "methods=[scratch]"
    )
    record = list(RunDirectory(run(suite, tmp_path / "run").path).records())[-1]
    assert record.metrics["top1"] is not None and record.metrics["top1_best_val"] is None
    assert record.reasons["top1_best_val"] == "there is no validation split" and record.best_epoch is None


def test_other_folders_and_other_suites_are_left_alone(
    finished: Path, small_suite: Load, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="holds a run of suite 'small', not 'else'"):
        run(small_suite("name=else"), finished)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="is not a run directory"):
        run(small_suite(), tmp_path / "mine")
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="choose another --out"):
        run(small_suite(), tmp_path / "file")
    with pytest.raises(UserError, match="cannot make"):
        run(small_suite(), tmp_path / "file" / "below")
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "x"


def test_two_processes_do_not_write_one_run(finished: Path, small_suite: Load) -> None:
    with (
        RunDirectory(finished).lock(),
        pytest.raises(UserError, match="another kdbench process is working on"),
    ):
        run(small_suite(), finished)


def folder_of_images(path: Path, classes: tuple[str, ...], count: int) -> None:
    random = np.random.default_rng(0)
    for label, name in enumerate(classes):
        (path / name).mkdir(parents=True)
        for index in range(count):
            pixels = random.integers(0, 60, (12, 12, 3)) + np.array(
                [90 * (label == 0), 90 * (label == 1), 60]
            )
            Image.fromarray(pixels.astype("uint8")).save(path / name / f"{index}.png")


def test_changed_data_under_the_same_name_is_noticed(small_suite: Load, tmp_path: Path) -> None:
    folder_of_images(tmp_path / "pets" / "train", ("cat", "dog"), 10)
    folder_of_images(tmp_path / "pets" / "test", ("cat", "dog"), 5)
    assisted = "methods=[{name: takd, assistants: [mlp_32]}]"
    overrides = [f"dataset={{name: 'folder:{tmp_path}/pets'}}", "students=[mlp_16]", assisted]
    assert run(small_suite(*overrides, "seeds=[0]"), tmp_path / "run").ok == 1
    before = {file: file.read_bytes() for file in (tmp_path / "run").iterdir() if file.is_file()}
    Image.new("RGB", (12, 12)).save(tmp_path / "pets" / "train" / "cat" / "0.png")
    for seeds in ("[0, 1]", "[0]"):  # a run that goes on, and one that is finished
        with pytest.raises(UserError, match=r"changed since .* 3 of 3 finished records are of other data"):
            run(small_suite(*overrides, f"seeds={seeds}", "description=another"), tmp_path / "run")
    assert {file: file.read_bytes() for file in before} == before
    checked = CliRunner().invoke(app, ["check", str(tmp_path / "run")])
    assert checked.exit_code == 1
    assert "3 of 3 finished records are of other data" in " ".join(checked.output.split())
    Path(tmp_path / "pets").rename(tmp_path / "dogs")
    checked = CliRunner().invoke(app, ["check", str(tmp_path / "run")])
    assert checked.exit_code == 0 and "not compared with the data of" in " ".join(checked.output.split())


def test_a_users_own_folder_student_and_checkpoint_run_end_to_end(
    write_suite: Callable[..., Path], tmp_path: Path
) -> None:
    folder_of_images(tmp_path / "pets" / "train", ("cat", "dog"), 30)
    folder_of_images(tmp_path / "pets" / "test", ("cat", "dog"), 15)
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "def tiny(in_channels, num_classes):\n"
        "    return nn.Sequential(nn.Conv2d(in_channels, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1),\n"
        "                         nn.Flatten(), nn.Linear(4, num_classes))\n"
    )
    torch.manual_seed(0)
    weights = build_model("cnn_4", inputs=InputSpec.image((3, 12, 12)), num_classes=2).state_dict()
    torch.save(
        {"state_dict": {f"module.{name}": value for name, value in weights.items()}}, tmp_path / "teacher.pth"
    )
    suite = Suite.load(
        write_suite(
            "dataset: {name: 'folder:pets', validation_fraction: 0.2}\n"
            "teachers: [{name: cnn_4, checkpoint: teacher.pth}]\n"
            "students: [{name: 'mine.py:tiny', label: tiny}]\n"
            "methods: [scratch, kd, {name: fitnet, layer: pooled, weight: 1}]\n"
            "seeds: [0]\n"
            "recipe: {epochs: 2, batch_size: 16}\n"
            "measure: {latency: false}\n",
            name="pets",
        )
    )
    heard = Listening()
    outcome = run(suite, tmp_path / "run", progress=heard)
    assert (outcome.ok, outcome.failed) == (3, 0), list(load(outcome.path).reason)
    assert any("Top-1 accuracy" in note for note in heard.notes)
    assert any("near chance" in warning for warning in heard.warnings)  # its weights are random
    frame = load(outcome.path)
    assert set(frame.student.dropna()) == {"tiny"} and frame.top1.notna().all()
    assert frame.params_adapter.iloc[-1] == 4 * 16 + 16


def test_the_public_api_is_lazy_and_complete() -> None:
    for name in kdbench.__all__:
        assert getattr(kdbench, name) is not None
    with pytest.raises(AttributeError):
        kdbench.nothing  # noqa: B018
