"""Several labels an example: read from a factory, split, distilled, scored, and refused where wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
import torch
import torch.nn.functional as F
from sklearn import metrics as sk

import kdbench
from kdbench.data import Description, describe_dataset, load_dataset
from kdbench.data.inspection import inspect_entry
from kdbench.errors import UserError
from kdbench.methods import FeatureShapes, Refusal, check_pair, find_method, methods
from kdbench.plan import make_plan
from kdbench.runner import run
from kdbench.runner.amendments.rescoring import rescore
from kdbench.store import Record, RunDirectory
from kdbench.suite import Suite
from kdbench.suite.schema import DatasetEntry
from tests.methods.given import batch, make, outputs, pair

# Each label says that its quarter of the image is bright.
FACTORY = """
import numpy as np


def make(count=240, labels=4, dtype="uint8", rare=False):
    random = np.random.default_rng(0)
    y = random.random((count, labels)) < 0.4
    if rare:
        y[:, 1] = np.arange(count) == 7
    x = random.integers(0, 120, (count, 8, 8))
    for k in range(labels):
        x[:, k // 2 * 4 : k // 2 * 4 + 4, k % 2 * 4 : k % 2 * 4 + 4] += 90 * y[:, k, None, None]
    x, y = x.astype("uint8"), y.astype(dtype)
    return {"train": (x[:160], y[:160]), "test": (x[160:], y[160:]), "classes": list("abcd")[:labels]}


def bad(value=2):
    x, y = np.zeros((6, 4, 4), dtype="uint8"), np.eye(6, 3, dtype=int)
    y[4, 1] = value
    return (x, y), (x, y)


def mixed():
    x, y = np.zeros((6, 4, 4), dtype="uint8"), np.eye(6, 3, dtype=int)
    return (x, y), (x, y.argmax(1))


def uneven():
    x, y = np.zeros((6, 4, 4), dtype="uint8"), np.eye(6, 3, dtype=int)
    return (x, y), (x, y[:, :2])


def named():
    x, y = np.zeros((6, 4, 4), dtype="uint8"), np.eye(6, 3, dtype=int)
    y[:, 2] = 0
    return {"train": (x, y), "test": (x, y), "classes": ["a", "b"]}


def unlabelled():
    x, y = np.zeros((6, 4, 4), dtype="uint8"), np.eye(6, 3, dtype=int)
    return (x, y), (x, 0 * y)


def absent():
    x, y = np.zeros((6, 4, 4), dtype="uint8"), np.eye(6, 3, dtype=int)
    y[:, 1] = 0
    return (x, y), (x, y)
"""
SUITE = """
description: several labels
dataset: {name: "quarters.py:make", validation_fraction: 0.2}
teachers: [{name: cnn_4, recipe: {epochs: 6}}]
students: [cnn_2]
methods: [scratch, {name: kd, temperature: 2, label: kd}, {name: fitnet, layer: 1, label: fitnet}]
seeds: [0]
recipe: {epochs: 3, batch_size: 20, lr: 0.1, precision: fp32}
measure: {latency: false}
"""


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "quarters.py"
    file.write_text(FACTORY)
    (tmp_path / "suite.yaml").write_text(SUITE)
    return file


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    folder = tmp_path_factory.mktemp("several")
    (folder / "quarters.py").write_text(FACTORY)
    (folder / "suite.yaml").write_text(SUITE)
    outcome = run(Suite.load(folder / "suite.yaml"), folder / "run")
    assert (outcome.ok, outcome.failed, outcome.skipped) == (3, 0, 0)
    return RunDirectory(outcome.path)


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("dtype", ["bool", "int64", "uint8"])
@pytest.mark.usefixtures("factory")
def test_a_matrix_of_zeros_and_ones_is_several_labels(dtype: str) -> None:
    args = {"dtype": dtype}
    data = load_dataset("quarters.py:make", validation_fraction=0.2, args=args)
    described = describe_dataset("quarters.py:make", args=args)
    assert described == (data.inputs, data.num_classes, data.target)
    assert described == Description.of_images((1, 8, 8), 4)._replace(target="multi_label")
    assert [tuple(split.labels.shape) for split in (data.train, data.validation, data.test)] == [
        (128, 4),
        (32, 4),
        (80, 4),
    ]
    assert data.train.labels.dtype == torch.uint8
    assert data.checksum == load_dataset("quarters.py:make", args={"dtype": "uint8"}).checksum


@pytest.mark.usefixtures("factory")
def test_the_validation_part_is_random_by_its_seed_alone() -> None:
    first, again, other = (
        load_dataset("quarters.py:make", validation_fraction=0.25, split_seed=seed) for seed in (0, 0, 1)
    )
    assert torch.equal(first.validation.images, again.validation.images)
    assert not torch.equal(first.validation.images, other.validation.images)
    whole = load_dataset("quarters.py:make", validation_fraction=0).train
    rows = {image.numpy().tobytes(): label for image, label in zip(whole.images, whole.labels, strict=True)}
    for split in (first.train, first.validation):
        for image, label in zip(split.images, split.labels, strict=True):
            assert torch.equal(rows.pop(image.numpy().tobytes()), label)
    assert not rows
    few = load_dataset("quarters.py:make", validation_fraction=0, args={"limit": 50, "limit_test": 30})
    assert (len(few.train), len(few.test)) == (50, 30)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "bad",
            "labels of train of quarters.py:bad hold 2 in row 4, column 1: a matrix of labels holds 0 and",
        ),
        ("mixed", "labels of test of quarters.py:mixed are single_label and those of train multi_label"),
        (
            "uneven",
            "labels of the test split of quarters.py:uneven have 2 columns, and there are 3 classes",
        ),
        (
            "named",
            "labels of the train split of quarters.py:named have 3 columns, and there are 2 classes",
        ),
        (
            "unlabelled",
            "no example of the test split of quarters.py:unlabelled has a label: add one",
        ),
        ("absent", "class '1' of quarters.py:absent has no training example: add some."),
    ],
)
@pytest.mark.usefixtures("factory")
def test_labels_that_cannot_be_trained_on_are_refused_in_one_line(name: str, text: str) -> None:
    assert text in refusal(lambda: load_dataset(f"quarters.py:{name}"))
    assert text in inspect_entry(DatasetEntry(name=f"quarters.py:{name}")).lines[0]


@pytest.mark.usefixtures("factory")
def test_a_label_that_only_the_validation_part_has_is_refused() -> None:
    messages = []
    for seed in range(12):
        try:
            load_dataset("quarters.py:make", validation_fraction=0.5, split_seed=seed, args={"rare": True})
        except UserError as error:
            messages.append(str(error))
    assert 0 < len(messages) < 12
    assert set(messages) == {
        "class 'b' has no example outside of the validation part: change validation_fraction or split_seed."
    }


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("dataset.imbalance={factor: 10}", "dataset.imbalance: it is not defined for quarters.py:make"),
        ("dataset.classes=[d, c, b, a]", "dataset.classes: it is not defined for quarters.py:make"),
        ("dataset.heads={other: 1}", "dataset.heads: quarters.py:make has one column of labels only"),
        ("robustness={corruptions: [gaussian_noise]}", "robustness: it is not defined for quarters.py:make"),
        ("controls={independent_teacher: {}}", "controls.independent_teacher: it is not defined for"),
        (
            "methods=[scratch, dkd]",
            "'dkd' cannot work with teacher 'cnn_4' and student 'cnn_2': it is for single_label",
        ),
    ],
)
def test_what_is_not_defined_for_several_labels_is_refused_by_the_plan(
    factory: Path, override: str, text: str
) -> None:
    assert text in refusal(lambda: make_plan(Suite.load(factory.with_name("suite.yaml"), [override])))


def test_the_api_refuses_what_the_plan_refuses(factory: Path) -> None:
    del factory
    assert "imbalance" in refusal(lambda: load_dataset("quarters.py:make", imbalance_factor=10))
    assert "classes" in refusal(lambda: load_dataset("quarters.py:make", classes=list("dcba")))


def tensors(run: RunDirectory, record: Record) -> dict[str, np.ndarray]:
    folder = run.folder(record.id)
    return safetensors.numpy.load_file(folder / "predictions.safetensors")


def test_every_model_is_scored_as_scikit_learn_does(finished: RunDirectory) -> None:
    records = {record.method: record for record in finished.records()}
    assert set(records) == {None, "scratch", "kd", "fitnet"}
    teacher = tensors(finished, records[None])
    for method, record in records.items():
        saved, metrics = tensors(finished, record), record.metrics
        labels, logits = saved["test_labels"], saved["test_logits"]
        assert labels.dtype == np.uint8 and labels.shape == logits.shape == (80, 4)
        assert metrics["map"] == pytest.approx(sk.average_precision_score(labels, logits), rel=1e-9)
        assert metrics["f1_macro"] == pytest.approx(sk.f1_score(labels, logits > 0, average="macro"))
        assert metrics["exact_match"] == pytest.approx(sk.accuracy_score(labels, logits > 0))
        best = sk.average_precision_score(labels, saved["test_best_logits"])
        assert metrics["map_best_val"] == pytest.approx(best, rel=1e-9)
        if method is not None:
            agreement = sk.accuracy_score(teacher["test_logits"] > 0, logits > 0)
            assert metrics["set_agreement"] == pytest.approx(agreement)
            assert 0 <= metrics["cka_pooled"] <= 1
        else:
            assert record.reasons["set_agreement"] == "it is the teacher"
        assert not {"top1", "nll", "agreement", "recall_per_class"} & (metrics.keys() | record.tables.keys())
    assert records[None].metrics["map"] > 0.9, "the head can be learnt"
    manifest = finished.manifest()
    assert (manifest["target"], manifest["headline"]) == ("multi_label", "map")
    columns = list(finished.columns())
    assert columns[0] == "map" and "map_best_val" in columns and "top1" not in columns


def test_the_best_epoch_is_that_of_the_highest_map_on_validation(finished: RunDirectory) -> None:
    for record in finished.records():
        saved = tensors(finished, record)
        folder = finished.folder(record.id)
        history = pd.read_csv(folder / "history.csv")
        assert {"train_map", "validation_map", "validation_bce", "loss_ce"} <= set(history.columns)
        last = history.iloc[-1]
        precision = sk.average_precision_score(saved["validation_labels"], saved["validation_logits"])
        assert last["validation_map"] == pytest.approx(precision, rel=1e-6)
        loss = F.binary_cross_entropy_with_logits(
            torch.from_numpy(saved["validation_logits"]).double(),
            torch.from_numpy(saved["validation_labels"]).double(),
        )
        assert last["validation_bce"] == pytest.approx(loss.item(), rel=1e-5)
        ranked = history.sort_values(["validation_map", "validation_bce"], ascending=[False, True])
        assert record.best_epoch == ranked["epoch"].iloc[0]


def test_a_validation_part_without_positives_has_no_best_epoch(factory: Path) -> None:
    text = FACTORY.replace("    x = random", "    y[1:160] = False\n    y[0] = True\n    x = random", 1)
    factory.write_text(text)
    assert not load_dataset("quarters.py:make", validation_fraction=0.2).validation.labels.any()
    suite = Suite.load(factory.parent / "suite.yaml", ["recipe.epochs=1", "teachers.0.recipe.epochs=1"])
    directory = RunDirectory(run(suite, factory.parent / "run").path)
    for record in directory.records():
        assert record.status == "ok" and record.best_epoch is None and record.metrics["map"] is not None
        best = {name for name in record.metrics if name.endswith("_best_val")}
        assert best and all(record.metrics[name] is None for name in best)
        assert {record.reasons[name] for name in best} == {"map has no value on validation"}


def test_outcomes_say_which_sets_are_right_and_which_are_the_teachers(finished: RunDirectory) -> None:
    teacher, *students = finished.records()
    taught = pd.read_parquet(finished.folder(teacher.id) / "outcomes.parquet")
    for record in students:
        outcomes = pd.read_parquet(finished.folder(record.id) / "outcomes.parquet")
        right, same = outcomes["label"] == outcomes["predicted"], taught["predicted"] == outcomes["predicted"]
        assert right.mean() == pytest.approx(record.metrics["exact_match"])
        assert same.mean() == pytest.approx(record.metrics["set_agreement"])
        assert 0 < right.mean() < 1


def test_one_student_is_not_the_other(finished: RunDirectory) -> None:
    logits = {record.method: tensors(finished, record)["test_logits"] for record in finished.records()}
    assert not np.array_equal(logits["kd"], logits["scratch"])
    assert not np.array_equal(logits["fitnet"], logits["scratch"])


def test_scoring_again_gives_the_same_numbers(finished: RunDirectory) -> None:
    before = [record.metrics for record in finished.records()]
    columns = list(finished.columns())
    assert rescore(finished.path) == 4
    assert [record.metrics for record in finished.records()] == before
    assert list(finished.columns()) == columns


def test_one_model_is_evaluated_without_a_suite(finished: RunDirectory) -> None:
    (record,) = (record for record in finished.records() if record.method == "kd")
    found = kdbench.evaluate(
        "cnn_2",
        f"{finished.path.parent}/quarters.py:make",
        checkpoint=finished.folder(record.id) / "weights.safetensors",
        overrides=["dataset.validation_fraction=0.2"],
    )
    assert (found["target"], found["headline"], found["class_order"]) == ("multi_label", "map", None)
    for name in ("map", "f1_micro", "f1_macro", "bce"):
        assert found[name] == pytest.approx(record.metrics[name], rel=1e-5)
    assert "top1" not in found


SETS = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.uint8)
# What a method needs to be told before it can be used at all.
REQUIRED = {"takd": {"assistants": ("cnn_2",)}}


@pytest.mark.parametrize("name", sorted(methods()))
def test_a_method_learns_several_labels_or_is_refused_by_what_it_declares(name: str) -> None:
    shapes = FeatureShapes((3,), (5,), ((5, 4, 4), (5, 2, 2)))
    of = pair(shapes, shapes, same=True, target="multi_label")
    distiller = find_method(name).distiller
    hyper = distiller.Parameters(**REQUIRED.get(name, {}))
    if distiller.targets is not None:
        with pytest.raises(Refusal, match="for single_label data, and student 'S' is to learn multi_label"):
            check_pair(distiller, hyper, of)
        return
    check_pair(distiller, hyper, of)
    made = make(name, of, **REQUIRED.get(name, {}))
    student, teacher = outputs(shapes, seed=1), outputs(shapes, seed=2)
    for stage in student.stages:
        stage.requires_grad_()
    student.pooled.requires_grad_()
    terms = made.losses(student, teacher, batch(SETS))
    torch.stack(list(terms.values())).sum().backward()
    if "ce" in terms and name not in ("kd", "takd"):
        expected = F.binary_cross_entropy_with_logits(student.logits, SETS.float())
        assert terms["ce"].item() == pytest.approx(expected.item(), rel=1e-6)


def test_kd_of_several_labels_by_hand() -> None:
    of = pair(target="multi_label")
    student, teacher = outputs(of.student_shapes, seed=1), outputs(of.teacher_shapes, seed=2)
    terms = make("kd", of, temperature=3.0, alpha=0.7, beta=0.3).losses(student, teacher, batch(SETS))
    p, q = (torch.sigmoid(z.logits.detach().double() / 3) for z in (teacher, student))
    kl = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    assert terms["kd"].item() == pytest.approx(0.7 * 9 * kl.mean().item(), rel=1e-5)
    hard = F.binary_cross_entropy_with_logits(student.logits, SETS.float())
    assert terms["ce"].item() == pytest.approx(0.3 * hard.item(), rel=1e-6)
