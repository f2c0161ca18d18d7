"""Several heads: further columns of labels, a head for each, and every metric for each."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.numpy import load_file
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, log_loss

from kdbench.data import load_dataset
from kdbench.errors import UserError
from kdbench.heads import PRIMARY
from kdbench.inputs import InputSpec
from kdbench.methods import Batch, Pair, Refusal
from kdbench.methods.distillers.kd import KD
from kdbench.methods.heads import Head, PerHead, check_heads
from kdbench.models import FeatureShapes, build_model
from kdbench.models.shapes import Outputs
from kdbench.plan import make_plan
from kdbench.report.writer import write_report
from kdbench.runner import run
from kdbench.runner.amendments.rescoring import rescore
from kdbench.runner.scores import head_columns
from kdbench.store import RunDirectory, check, read_json
from kdbench.suite import Suite
from kdbench.suite.schema import DatasetEntry
from tests.documents import write_document

SUITE = """
dataset: {{name: "parquet:{folder}", heads: {{half: 0.5, parity: 1.0}}, validation_fraction: 0.2}}
teachers: [{{name: cnn_4, recipe: {{epochs: 6}}}}]
students: [mlp_16]
methods: [scratch, {{name: kd, temperature: 2}}]
seeds: [0, 1]
recipe: {{epochs: 3, batch_size: 25, lr: 0.1, precision: fp32}}
measure: {{latency: false}}
controls: {{random_teacher: true}}
robustness: {{corruptions: [brightness], severities: [1]}}
"""
OUTPUTS = {PRIMARY: 10, "half": 2, "parity": 2}


def write(path: Path, images: Sequence[np.ndarray], columns: dict[str, list[int]]) -> None:
    rows = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, format="PNG")
        rows.append({"bytes": buffer.getvalue(), "path": None})
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"img": pa.array(rows, kind), **columns}), path)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits with two further columns: whether a digit is 5 or more, and whether it is odd."""
    folder = tmp_path_factory.mktemp("digits")
    bunch = load_digits()
    images = (bunch.images * 15).astype(np.uint8)
    for split, part in (("train", slice(0, 400)), ("test", slice(400, 600))):
        labels = bunch.target[part]
        columns = {"label": labels.tolist(), "half": (labels >= 5).astype(int).tolist()}
        write(folder / f"{split}.parquet", images[part], columns | {"parity": (labels % 2).tolist()})
    return folder


@pytest.fixture(scope="module")
def finished(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    folder = tmp_path_factory.mktemp("heads")
    (folder / "heads.yaml").write_text(SUITE.format(folder=digits))
    outcome = run(Suite.load(folder / "heads.yaml"), folder / "run")
    assert (outcome.ok, outcome.failed) == (6, 0)
    return RunDirectory(outcome.path)


@pytest.fixture
def suite(digits: Path, tmp_path: Path) -> Callable[..., Suite]:
    file = tmp_path / "heads.yaml"
    file.write_text(SUITE.format(folder=digits))
    return lambda *overrides: Suite.load(file, overrides)


def test_every_split_has_the_labels_of_every_head(digits: Path) -> None:
    data = load_dataset(f"parquet:{digits}", heads=("half", "parity"), args={"limit": 100})
    assert data.outputs == OUTPUTS
    for split in (data.train, data.validation, data.test):
        assert split.further["half"].equal((split.labels >= 5).long())
        assert split.further["parity"].equal(split.labels % 2)
    assert data.checksum != load_dataset(f"parquet:{digits}", args={"limit": 100}).checksum


def test_streamed_images_keep_the_labels_of_every_head(digits: Path, tmp_path: Path) -> None:
    held, streamed = (
        load_dataset(f"parquet:{digits}", heads=("half",), memory_budget=budget, scratch=tmp_path)
        for budget in (None, 1)
    )
    assert (held.way, streamed.way) == ("memory", "streamed")
    assert held.checksum == streamed.checksum
    assert held.train.further["half"].equal(streamed.train.further["half"])


def test_the_loss_is_the_weighted_sum_of_every_heads_own() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(8, 12), torch.randn(8, 12)
    labels, half, index = torch.arange(20) % 10, torch.arange(20) % 2, torch.arange(12, 20)
    shapes = FeatureShapes((12,), None, ())
    pair = Pair("t", "s", shapes, shapes, 10, same_architecture=False)
    hyper = KD.Parameters(temperature=3.0)
    heads = {PRIMARY: Head(10, labels), "half": Head(2, half, weight=0.5)}
    both = PerHead(lambda own: KD(hyper, own), pair, heads)
    assert both.widths == [10, 2]
    terms = both.losses(
        Outputs(student), Outputs(teacher), Batch(labels[12:], index, 0.0, lambda network: student)
    )
    alone = KD(hyper, pair)

    def expected(part: slice, target: torch.Tensor) -> dict[str, torch.Tensor]:
        batch = Batch(target, index, 0.0, lambda network: student)
        return alone.losses(Outputs(student[:, part]), Outputs(teacher[:, part]), batch)

    own = expected(slice(0, 10), labels[12:])
    further = expected(slice(10, 12), half[12:])
    assert set(terms) == {*own, *(f"half.{name}" for name in further)}
    for name, value in own.items():
        torch.testing.assert_close(terms[name], value)
    for name, value in further.items():
        torch.testing.assert_close(terms[f"half.{name}"], 0.5 * value)
    torch.testing.assert_close(
        terms["half.ce"], 0.5 * hyper.beta * F.cross_entropy(student[:, 10:], half[12:])
    )


def test_every_head_has_every_metric(finished: RunDirectory) -> None:
    columns = finished.columns()
    for record in finished.records():
        folder = finished.folder(record.id)
        for head in ("half", "parity"):
            for column in head_columns(head):
                assert column.name in columns
                known = record.metrics[column.name] is not None
                assert known != (column.name in record.reasons), column.name
            tensors = load_file(folder / f"{head}.predictions.safetensors")
            logits, labels = tensors["test_logits"], tensors["test_labels"]
            assert logits.shape == (200, 2)
            assert record.metrics[f"{head}.top1"] == pytest.approx(
                accuracy_score(labels, logits.argmax(1)), abs=1e-12
            )
            shares = torch.from_numpy(logits).double().softmax(1).numpy()
            assert record.metrics[f"{head}.nll"] == pytest.approx(log_loss(labels, shares), rel=1e-6)
        assert load_file(folder / "predictions.safetensors")["test_logits"].shape == (200, 10)


def test_further_heads_learn(finished: RunDirectory) -> None:
    teacher = next(record for record in finished.records() if record.role == "teacher")
    assert teacher.metrics["top1"] > 0.5
    for head in ("half", "parity"):
        assert teacher.metrics[f"{head}.top1"] > 0.7


def test_agreement_is_that_with_the_teachers_own_head(finished: RunDirectory) -> None:
    teacher = finished.folder(finished.manifest()["teachers"][0])
    for record in finished.records():
        if record.role == "student":
            mine = load_file(finished.folder(record.id) / "half.predictions.safetensors")
            theirs = load_file(teacher / "half.predictions.safetensors")
            agreed = (mine["test_logits"].argmax(1) == theirs["test_logits"].argmax(1)).mean()
            assert record.metrics["half.agreement"] == pytest.approx(agreed)


def test_costs_are_of_all_heads(finished: RunDirectory) -> None:
    record = next(record for record in finished.records() if record.role == "student")
    model = build_model("mlp_16", inputs=InputSpec.image((1, 8, 8)), num_classes=14)
    assert record.metrics["params"] == sum(weight.numel() for weight in model.parameters())


def test_rescoring_gives_the_same_numbers(finished: RunDirectory) -> None:
    before = [record.metrics for record in finished.records()]
    rescore(finished.path)
    assert [record.metrics for record in finished.records()] == before
    assert not check(finished.path)


def test_the_report_has_a_table_for_every_head(finished: RunDirectory, tmp_path: Path) -> None:
    page = write_report(finished.path, tmp_path / "report")
    text = (page.parent / "report.md").read_text()
    assert "half: Top-1 accuracy and cost" in text and "parity: Top-1 accuracy and cost" in text
    assert "half.top1" in (page.parent / "results_half.csv").read_text().splitlines()[0]


def test_methods_that_read_features_are_refused(suite: Callable[..., Suite]) -> None:
    with pytest.raises(UserError, match=r"'fitnet' cannot work .* features are shared by the heads"):
        make_plan(suite("methods.1={name: fitnet}", "students=[cnn_2]"))


def test_heads_are_part_of_the_ids_and_absent_ones_are_not(suite: Callable[..., Suite]) -> None:
    two, one = make_plan(suite()), make_plan(suite("dataset.heads={half: 0.5}"))
    none = make_plan(suite("dataset.heads={}"))
    assert len({two.cells[0].id, one.cells[0].id, none.cells[0].id}) == 3
    assert "heads" not in none.cells[0].node.config["dataset"]
    assert none.cells[0].node.step.pair.num_classes == 10


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("dataset.heads={halve: 1}", "has no column 'halve' (dataset.heads). Did you mean 'half'?"),
        ("dataset.heads={label: 1}", "'label' is the dataset's own head"),
        ("dataset.name=digits", "dataset.heads: digits has one column of labels only"),
    ],
)
def test_bad_heads(suite: Callable[..., Suite], override: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        make_plan(suite(override))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_the_order_of_heads_is_no_part_of_a_suite(suite: Callable[..., Suite]) -> None:
    orders = ("{half: 0.5, parity: 1.0}", "{parity: 1.0, half: 0.5}")
    ids = [[cell.id for cell in make_plan(suite(f"dataset.heads={order}")).cells] for order in orders]
    assert ids[0] == ids[1]


def test_a_head_of_one_class_is_refused(digits: Path, tmp_path: Path) -> None:
    images = [np.full((8, 8), 20 * row, np.uint8) for row in range(8)]
    columns = {
        "label": [row % 2 for row in range(8)],
        "one": [0] * 8,
        "gap": [2 * (row % 2) for row in range(8)],
    }
    for split in ("train", "test"):
        write(tmp_path / f"{split}.parquet", images, columns)
    for head, message in (
        ("one", "one of .* has 1 class"),
        ("gap", "class '1' of gap in .* has no training"),
    ):
        with pytest.raises(UserError, match=message):
            load_dataset(f"parquet:{tmp_path}", heads=(head,), validation_fraction=0)


def test_a_method_with_a_model_of_its_own_is_refused() -> None:
    class Keeps(KD):
        @classmethod
        def network(cls, hyper: Any, student: Any, teacher: Any) -> dict[str, Any]:
            return {"name": "mlp_8"}

    shapes = FeatureShapes((12,), None, ())
    pair = Pair("t", "s", shapes, shapes, 10, same_architecture=False)
    with pytest.raises(Refusal, match="the heads share one model"):
        check_heads(Keeps, KD.Parameters(), pair, {"half": 2})
    check_heads(Keeps, KD.Parameters(), pair, {})


def test_a_weight_must_be_above_zero(suite: Callable[..., Suite]) -> None:
    with pytest.raises(UserError, match=r"dataset\.heads\.half: found 0; .*greater than 0"):
        suite("dataset.heads={half: 0}")


def test_records_name_the_heads(finished: RunDirectory) -> None:
    manifest = json.loads((finished.path / "run.json").read_text())
    assert manifest["heads"] == {"half": ["0", "1"], "parity": ["0", "1"]}


def test_what_was_written_before_heads_had_their_name_is_read(finished: RunDirectory, tmp_path: Path) -> None:
    assert DatasetEntry.model_validate({"name": "digits", "tasks": {"odd": 2.0}}).heads == {"odd": 2.0}
    content = read_json(finished.path / "run.json")
    write_document(
        tmp_path / "run.json", {"tasks" if key == "heads" else key: value for key, value in content.items()}
    )
    assert RunDirectory(tmp_path).manifest()["heads"] == content["heads"]
