"""Robust evaluation in a run: what records hold, and that it comes, stays and goes without training."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from sklearn.metrics import accuracy_score, log_loss

from kdbench.data import load_dataset
from kdbench.data.corruptions import corrupt
from kdbench.data.dataset import Streamed
from kdbench.data.splits import balanced
from kdbench.errors import UserError
from kdbench.exporting.cell import _normalisation
from kdbench.inputs import InputSpec
from kdbench.metrics.robustness import COLUMNS
from kdbench.models import build_model
from kdbench.plan import make_plan
from kdbench.progress import Progress
from kdbench.runner import run
from kdbench.runner.shifts import Images
from kdbench.store import Record, RunDirectory, check, load
from kdbench.suite import Suite
from kdbench.suite.measurements import RobustnessEntry
from tests.conftest import SMALL
from tests.test_run import folder_of_images

Load = Callable[..., Suite]
NAMES = {column.name for column in COLUMNS}
SHIFTS = "robustness={corruptions: [gaussian_noise, contrast], severities: [1, 5], examples: 120}"
ONE_SEED = "seeds=[0]"


class Stages(Progress):
    """Remembers which stages began; stops the run where the stage of one name begins."""

    def __init__(self, stop_at: str = "") -> None:
        self.begun: list[str] = []
        self._stop_at = stop_at

    def begin(self, label: str, total: int, unit: str) -> None:
        if self._stop_at and self._stop_at in label:
            raise KeyboardInterrupt
        self.begun.append(label)


def records(path: Path) -> list[Record]:
    return list(RunDirectory(path).records())


def scores(path: Path) -> dict[str, Any]:
    return {record.id: (record.metrics, record.reasons, record.tables) for record in records(path)}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a finished run whose suite asks for no corruptions."""
    folder = tmp_path_factory.mktemp("plain")
    (folder / "small.yaml").write_text(SMALL)
    return run(Suite.load(folder / "small.yaml", [ONE_SEED]), folder / "run").path


@pytest.fixture
def copy(plain: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(plain, tmp_path / "run"))


@pytest.fixture(scope="module")
def shifted(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of the same suite that asks for corruptions from the beginning."""
    folder = tmp_path_factory.mktemp("shifted")
    (folder / "small.yaml").write_text(SMALL)
    suite = Suite.load(folder / "small.yaml", [ONE_SEED, SHIFTS])
    return run(suite, folder / "run", teacher_store=plain).path


def test_columns_exist_only_where_the_suite_asks_for_them(plain: Path, shifted: Path) -> None:
    assert not NAMES & set(RunDirectory(plain).columns())
    assert not any(NAMES & record.metrics.keys() for record in records(plain))
    assert set(RunDirectory(shifted).columns()) >= NAMES and check(shifted) == []
    for record in records(shifted):
        assert record.metrics.keys() >= NAMES
        null = {name for name, value in record.metrics.items() if value is None}
        assert null == record.reasons.keys() & record.metrics.keys()
    assert load(shifted).corruption_accuracy_mean.notna().all()
    teacher = records(shifted)[0]
    assert teacher.reasons["agreement_corrupted"] == "it is the teacher"


def test_values_follow_from_the_stored_weights(shifted: Path) -> None:
    data = load_dataset("digits", args={"limit": 300, "limit_test": 200}, validation_fraction=0.2)
    rows = torch.from_numpy(balanced(data.test.labels.numpy(), 120))
    labels = data.test.labels[rows].numpy()
    assert (np.bincount(labels) == 12).all()

    def probabilities(record: Record, images: torch.Tensor) -> np.ndarray:
        model = build_model(record.student or "cnn_4", inputs=InputSpec.image((1, 8, 8)), num_classes=10)
        weights = safetensors.torch.load_file(shifted / record.place / "weights.safetensors")
        model.load_state_dict(weights)
        x = (images.float() / 255 - data.mean[0]) / data.std[0]
        with torch.no_grad():
            return model.eval()(x.permute(0, 3, 1, 2)).double().softmax(1).numpy()

    teacher, *students = records(shifted)
    for student in students:
        table = student.tables["corruptions"]
        assert table["examples"] == 120 and table["severities"] == [1, 5]
        accuracies, agreements = [], []
        for name in ("gaussian_noise", "contrast"):
            for place, severity in enumerate((1, 5)):
                images = corrupt(data.test.images[rows], name, severity, rows=rows)
                mine, theirs = (probabilities(record, images) for record in (student, teacher))
                accuracies.append(accuracy_score(labels, mine.argmax(1)))
                agreements.append(np.mean(mine.argmax(1) == theirs.argmax(1)))
                assert table["accuracy"][name][place] == pytest.approx(accuracies[-1])
                assert table["nll"][name][place] == pytest.approx(log_loss(labels, mine), rel=1e-4)
                assert table["agreement"][name][place] == pytest.approx(agreements[-1])
        clean = accuracy_score(labels, probabilities(student, data.test.images[rows]).argmax(1))
        metrics = student.metrics
        assert metrics["corruption_accuracy_mean"] == pytest.approx(np.mean(accuracies))
        assert metrics["corruption_accuracy_drop"] == pytest.approx(clean - np.mean(accuracies))
        assert metrics["agreement_corrupted"] == pytest.approx(np.mean(agreements))


def test_a_finished_run_is_given_it_later_and_loses_it_again(
    copy: Path, shifted: Path, small_suite: Load
) -> None:
    before, heard = scores(copy), Stages()
    run(small_suite(ONE_SEED, SHIFTS), copy, progress=heard)
    assert heard.begun == ["1 model on corrupted images", "4 models on corrupted images"]
    found, expected = scores(copy), scores(shifted)
    assert found.keys() == expected.keys()
    for id, (metrics, _, tables) in found.items():
        assert tables == expected[id][2]
        assert {name: metrics[name] for name in NAMES} == {name: expected[id][0][name] for name in NAMES}
    stamps = {path: path.stat().st_mtime_ns for path in copy.glob("*/*/record.json")}
    heard = Stages()
    run(small_suite(ONE_SEED, SHIFTS), copy, progress=heard)
    assert heard.begun == []
    assert stamps == {path: path.stat().st_mtime_ns for path in copy.glob("*/*/record.json")}
    run(small_suite(ONE_SEED), copy, progress=heard)
    assert heard.begun == [] and scores(copy) == before
    assert not NAMES & set(RunDirectory(copy).columns())


def test_other_severities_replace_what_was_found(copy: Path, small_suite: Load) -> None:
    run(small_suite(ONE_SEED, SHIFTS), copy)
    run(small_suite(ONE_SEED, "robustness={corruptions: jpeg, severities: [3]}"), copy)
    table = records(copy)[1].tables["corruptions"]
    assert table["accuracy"].keys() == {"jpeg"} and table["examples"] == 200


def test_a_run_that_was_stopped_goes_on_with_what_is_missing(
    copy: Path, shifted: Path, small_suite: Load
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(small_suite(ONE_SEED, SHIFTS), copy, progress=Stages(stop_at="4 models"))
    teacher, *students = records(copy)
    assert "corruptions" in teacher.tables and not any(s.tables.get("corruptions") for s in students)
    heard = Stages()
    run(small_suite(ONE_SEED, SHIFTS), copy, progress=heard)
    assert not any("students" in stage for stage in heard.begun)
    for id, (_, _, tables) in scores(copy).items():
        assert tables == scores(shifted)[id][2]


def test_weights_that_changed_are_refused_and_stay_found(copy: Path, small_suite: Load) -> None:
    weights = copy / "nodes" / records(copy)[1].id / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=r"weights\.safetensors: changed since it was recorded"):
        run(small_suite(ONE_SEED, SHIFTS), copy)
    assert [copy / finding.path for finding in check(copy)] == [weights]


def test_without_weights_it_is_null_with_the_reason(copy: Path, small_suite: Load) -> None:
    for file in copy.glob("nodes/*/*.safetensors"):
        file.unlink()
    run(small_suite(ONE_SEED, SHIFTS), copy)
    for record in records(copy):
        assert {record.metrics[name] for name in NAMES} == {None}
        assert record.reasons["corruption_ece_mean"] == "its weights are not stored with this run"
        assert "corruptions" not in record.tables


def test_it_decides_no_id(small_suite: Load) -> None:
    plans = [make_plan(small_suite(*overrides)) for overrides in ((), (SHIFTS,))]
    assert [cell.id for cell in plans[0].cells] == [cell.id for cell in plans[1].cells]
    assert plans[0].teachers[0].id == plans[1].teachers[0].id


def test_a_field_that_came_later_changes_no_older_id(small_suite: Load) -> None:
    """The configuration of a cell of a suite without imbalance is the one that older versions hashed."""
    config = make_plan(small_suite()).cells[0].node.config
    assert set(config["dataset"]) == {"name", "validation_fraction", "split_seed", "augment", "args"}
    tail = make_plan(small_suite("dataset.imbalance={factor: 10}")).cells[0]
    assert tail.node.config["dataset"]["imbalance"] == {"factor": 10}
    assert tail.id != make_plan(small_suite()).cells[0].id


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("{corruptions: fog}", "unknown corruption 'fog'. Known: brightness, contrast,"),
        ("{corruptions: [all, jpeg]}", "unknown corruption 'all'"),
        ("{corruptions: [jepg]}", "unknown corruption 'jepg'. Did you mean 'jpeg'?"),
        ("{corruptions: [jpeg, jpeg]}", "robustness: corruption 'jpeg' is listed twice"),
        ("{corruptions: []}", "robustness.corruptions: found []"),
        ("{severities: [0]}", "robustness.severities.0: found 0; input should be greater than or equal to 1"),
        ("{severities: [6]}", "robustness.severities.0: found 6"),
        ("{severities: [1, 1]}", "robustness: severity '1' is listed twice"),
        ("{examples: 5}", "robustness.examples is 5: give at least one example a class (10)."),
        ("{example: 50}", "unknown field 'example'. Did you mean 'examples'?"),
    ],
)
def test_mistakes_are_told_before_anything_trains(entry: str, expected: str, small_suite: Load) -> None:
    with pytest.raises(UserError) as caught:
        make_plan(small_suite(f"robustness={entry}"))
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_a_long_tail_is_trained_on_and_scored_by_group(small_suite: Load, tmp_path: Path) -> None:
    suite = small_suite(
        ONE_SEED, "dataset.imbalance={factor: 30}", "dataset.args={limit_test: 200}", "students=[mlp_16]"
    )
    path = run(suite, tmp_path / "run").path
    manifest = json.loads((path / "run.json").read_text())
    assert manifest["dataset"] == "digits (long tail of factor 30)" and manifest["sizes"]["train"] < 400
    data = load_dataset("digits", validation_fraction=0.2, imbalance_factor=30, args={"limit_test": 200})
    assert _normalisation(records(path)[-1], None, None) == {"mean": list(data.mean), "std": list(data.std)}
    for record in records(path):
        assert record.dataset == manifest["dataset"]
        recall = np.array(record.tables["recall_per_class"])
        labels = safetensors.torch.load_file(path / record.place / "predictions.safetensors")["train_labels"]
        sizes = np.bincount(labels, minlength=10)
        assert record.reasons["accuracy_many"] == "no class has more than 100 training images"
        medium, few = recall[(sizes >= 20) & (sizes <= 100)].mean(), recall[sizes < 20].mean()
        assert record.metrics["accuracy_medium"] == pytest.approx(medium)
        assert record.metrics["accuracy_few"] == pytest.approx(few)
        assert record.metrics["accuracy_few_best_val"] is not None


def test_a_test_split_on_disk_is_shown_like_one_in_memory(tmp_path: Path) -> None:
    for part, count in (("train", 3), ("test", 4)):
        folder_of_images(tmp_path / "pets" / part, ("cat", "dog"), count)
    entry = RobustnessEntry(corruptions=("gaussian_noise",), severities=(2,), examples=6)
    seen = []
    for budget in (None, 1):
        data = load_dataset(f"folder:{tmp_path}/pets", validation_fraction=0, memory_budget=budget)
        assert isinstance(data.test, Streamed) == (budget == 1)
        images = Images(entry, SimpleNamespace(data=data, device=torch.device("cpu")))
        assert len(images.labels) == 6
        batches = [
            (x, y) for shift in images.shifts for part in images.shown(shift) for x, y, _ in part.ordered(4)
        ]
        seen.append([torch.cat(each) for each in zip(*batches, strict=True)])
    assert all(torch.equal(*pair) for pair in zip(*seen, strict=True))
