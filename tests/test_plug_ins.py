"""One file a plug-in, of every kind, in a folder of a user's own: found by its name, and by nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from kdbench.cli.options import load_suite
from kdbench.errors import UserError
from kdbench.metrics import score
from kdbench.plan import make_plan
from kdbench.report import write_report
from kdbench.runner import run
from kdbench.store import RunDirectory, check, load
from kdbench.suite import Suite

FILES = {
    "distiller.py": """
from kdbench.methods import Combined, method


@method("louder", title="logits of the teacher's size", source="this test", year=2026)
class Louder(Combined):
    class Parameters(Combined.Parameters):
        weight: float = 0.1

    def terms(self, student, teacher, batch):
        apart = student.logits.norm(dim=1) - teacher.logits.norm(dim=1)
        return {"size": self.hyper.weight * apart.square().mean()}
""",
    "compressor.py": """
from kdbench.deferred import torch
from kdbench.methods.compressor import Compressor, compressor


@compressor("without_biases", title="biases to zero", source="this test", year=2026)
class WithoutBiases(Compressor):
    def decide(self, model, batches):
        return {"biases": [name for name, _ in model.named_parameters() if name.endswith("bias")]}

    def apply(self, model, decision):
        self.names = decision["biases"]
        self.hold(model)
        return model

    def hold(self, model):
        weights = dict(model.named_parameters())
        with torch.no_grad():
            for name in self.names:
                weights[name].zero_()
""",
    "model.py": """
import torch
from torch import nn


class Both(nn.Module):
    def __init__(self, inputs, num_classes, width=4):
        super().__init__()
        self.image = nn.Conv2d(inputs.fields["image"].shape[0], width, 3)
        self.sensor = nn.Linear(*inputs.fields["sensor"].shape, width)
        self.head = nn.Linear(2 * width, num_classes)

    def forward(self, inputs):
        seen = self.image(inputs["image"]).relu().mean((2, 3))
        return {"logits": self.head(torch.cat([seen, self.sensor(inputs["sensor"]).relu()], 1))}
""",
    "data.py": """
import numpy as np


def make(count=90):
    random = np.random.default_rng(0)
    labels = np.arange(count) % 3
    image = random.integers(0, 256, (count, 6, 6, 1), dtype=np.uint8)
    part = {"image": image, "sensor": np.eye(3, dtype=np.float32)[labels] + random.normal(size=(count, 3))}
    return (part, labels), ({name: values[:45] for name, values in part.items()}, labels[:45])
""",
    "corruption.py": """
from kdbench.data.corruptions.registry import corruption


@corruption("dimmed", title="darker", level="factor", levels=(0.9, 0.7, 0.5, 0.3, 0.1), source="this test")
def dimmed(images, level, chance):
    return images * level
""",
    "metric.py": """
from kdbench.metrics import metric


@metric("third", title="Class 2", family="head", direction="none", range="[0, 1]", source="this test")
def third(predictions):
    return float((predictions == 2).double().mean())
""",
    "section.py": """
from kdbench.report.blocks import Paragraphs, Title
from kdbench.report.registry import section


@section("thirds", order=15)
def thirds(summary):
    yield Title("Thirds")
    yield Paragraphs([f"{row.model}: {row.mean('third'):.3f} of class 2." for row in summary.students])
""",
    "executor.py": """
from kdbench.runner.works import executor


@executor("backwards", title="the last work first")
class Backwards:
    def __init__(self, jobs):
        self.jobs = jobs

    def run(self, works, tell):
        for work in reversed(works):
            work.carry_out(tell)
""",
    "suite.yaml": """
dataset: {name: "data.py:make", validation_fraction: 0.2}
teachers: [{name: "model.py:Both", args: {width: 8}}]
students: [{name: "model.py:Both", label: both}]
methods:
  - scratch
  - {name: "distiller.py:Louder", weight: 0.2}
  - {chain: [kd, "compressor.py:WithoutBiases", {"distiller.py:Louder": {kd: 1.0}}]}
seeds: [0, 1]
recipe: {epochs: 2, batch_size: 24, lr: 0.1, precision: fp32}
measure: {latency: false}
robustness: {corruptions: ["corruption.py:dimmed", brightness], severities: [2]}
metrics: ["metric.py:third"]
sections: ["section.py:thirds"]
""",
}
CHAIN = "kd → without_biases → louder(kd=1)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def finished(folder: Path) -> Path:
    suite = Suite.load(folder / "suite.yaml")
    return run(suite, folder / "run", executor=f"{folder}/executor.py:Backwards").path


def test_a_suite_runs_with_one_plug_in_of_every_kind(finished: Path) -> None:
    table = load(finished).query("role == 'student'")
    assert set(table.status) == {"ok"} and set(table.method) == {"scratch", "louder(weight=0.2)", CHAIN}
    assert check(finished) == []
    records = {record.id: record for record in RunDirectory.open(finished).records()}
    for record in records.values():
        assert record.tables["corruptions"]["accuracy"].keys() == {"dimmed", "brightness"}
        logits = RunDirectory.open(finished).path / record.place / "predictions.safetensors"
        predicted = _tensor(logits, "test_logits").argmax(1)
        assert record.metrics["third"] == pytest.approx(np.mean(predicted == 2))
        assert record.metrics["third_best_val"] is not None
    last = next(record for record in records.values() if record.method == CHAIN)
    weights = finished / last.place / "weights.safetensors"
    assert all(not _tensor(weights, name).any() for name in ("image.bias", "sensor.bias", "head.bias"))
    assert _tensor(weights, "head.weight").any()


def test_the_report_has_the_section_that_the_suite_names(finished: Path, tmp_path: Path) -> None:
    write_report(finished, tmp_path, page="lean")
    text = (tmp_path / "report.md").read_text()
    assert text.index("Thirds") < text.index("of class 2.") and "both: 0." in text


def test_an_executor_changes_the_order_and_nothing_else(folder: Path, finished: Path) -> None:
    again = run(Suite.load(folder / "suite.yaml"), folder / "again").path
    one, other = load(finished).set_index("id"), load(again).set_index("id")
    same = ["nll", "third", "agreement", "corruption_nll_mean"]
    assert one[same].equals(other.loc[one.index, same])


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (
            "compressor.py",
            "def apply",
            "def applied",
            r"'without_biases' \(compressor.py:6\) lacks .* apply\(\)",
        ),
        (
            "compressor.py",
            '"without_biases"',
            '"cast"',
            r"'cast' .* has the name of one at cast.py:\d+: rename",
        ),
        (
            "distiller.py",
            '"louder"',
            '"kd"',
            r"'kd' of distiller.py:\d+ has the name of one at kd.py:\d+: rename",
        ),
        ("metric.py", '"third"', '"top1"', "top1"),
        ("metric.py", '"third"', '"Third part"', "'Third part': its name is a column's"),
        ("metric.py", "def third(predictions)", "def third(weather)", "weather"),
        ("corruption.py", "import corruption", "import no_such", r"corruption.py.*no_such"),
        ("distiller.py", "@method", "1 / 0\n@method", r"distiller.py.*ZeroDivisionError"),
    ],
)
def test_a_plug_in_with_a_fault_is_refused_in_one_line(
    tmp_path: Path, file: str, old: str, new: str, message: str
) -> None:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text.replace(old, new) if name == file else text)
    with pytest.raises(UserError, match=message) as refusal:
        make_plan(Suite.load(tmp_path / "suite.yaml"))
    assert "\n" not in str(refusal.value) and file in str(refusal.value)


@pytest.mark.parametrize("body", ["raise RuntimeError('no luck')", "return 'much'"])
def test_a_metric_that_fails_is_null_with_the_reason_and_others_keep_their_values(
    tmp_path: Path, body: str
) -> None:
    head = FILES["metric.py"].rsplit("return", 1)[0]
    (tmp_path / "metric.py").write_text(f"{head}{body}\n")
    tensors = {"logits": torch.eye(3), "labels": torch.arange(3)}
    values, reasons = score(tensors, own=[f"{tmp_path}/metric.py:third"])
    assert values["third"] is None and values["top1"] == 1.0
    assert "it failed: " in reasons["third"] and "metric.py" in reasons["third"]


def test_a_section_that_is_not_there_is_refused_before_anything_trains(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text.replace("section.py:thirds", "section.py:fourths"))
    with pytest.raises(UserError, match="fourths"):
        load_suite(str(tmp_path / "suite.yaml"), None, None)


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ("[{chain: [kd]}]", "a chain is a list of two methods or more"),
        ("[{chain: [kd, {chain: [kd, cast]}]}]", "a chain cannot hold a chain"),
        ("[{name: kd, label: scratch}]", "the label 'scratch' is that of the student trained alone"),
    ],
)
def test_a_method_that_means_nothing_is_refused(tmp_path: Path, methods: str, message: str) -> None:
    (tmp_path / "suite.yaml").write_text(
        f"dataset: digits\nteachers: [cnn_4]\nstudents: [mlp_16]\nmethods: {methods}\n"
    )
    with pytest.raises(UserError, match=message):
        Suite.load(tmp_path / "suite.yaml")


def _tensor(file: Path, name: str) -> np.ndarray:
    from safetensors import safe_open

    with safe_open(file, framework="pt") as content:
        tensor: torch.Tensor = content.get_tensor(name)
    return tensor.numpy()
