"""Data with an image and a vector, from the function that makes it to the file that is exported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from kdbench.data import Batches, describe_dataset, load_dataset
from kdbench.data.augment import Augment
from kdbench.data.checks import check
from kdbench.data.dataset import Examples, Raw
from kdbench.efficiency import ModelJob, Protocol, measure
from kdbench.efficiency.places import Place
from kdbench.efficiency.runtimes import prepare, restore
from kdbench.errors import UserError, refuse
from kdbench.exporting import export, trained_student
from kdbench.inputs import Field, InputSpec, copied, same
from kdbench.models import build_model
from kdbench.models.trial import try_out
from kdbench.plan import make_plan
from kdbench.runner import run
from kdbench.store import RunDirectory
from kdbench.suite import Suite

DATA = """
import numpy as np


def make(count=120):
    random = np.random.default_rng(0)
    labels = np.arange(count) % 3
    image = random.integers(0, 256, (count, 6, 6, 1), dtype=np.uint8)
    # The class stands in the sensor alone.
    sensor = np.eye(3)[labels] * 4 + random.normal(size=(count, 3))
    token = labels[:, None] + random.integers(5, 7, (count, 2))
    part = {"token": token, "image": image, "sensor": sensor}
    return (part, labels), ({name: values[:60] for name, values in part.items()}, labels[:60])


def numbers():
    (train, labels), (test, held_out) = make()
    return ({"sensor": train["sensor"]}, labels), ({"sensor": test["sensor"]}, held_out)
"""
MODEL = """
import torch
from torch import nn


class Both(nn.Module):
    def __init__(self, inputs, num_classes, width=8, writes=False):
        super().__init__()
        fields = inputs.fields
        self.convolution = nn.Conv2d(fields["image"].shape[0], width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.token = nn.Embedding(int(fields["token"].high) + 1, width)
        self.sensor = nn.Linear(fields["sensor"].shape[0], width)
        self.head = nn.Linear(3 * width, num_classes)
        self.writes = writes

    def forward(self, inputs):
        if self.writes:
            inputs["sensor"].mul_(2)
        seen = self.norm(self.convolution(inputs["image"])).relu().mean((2, 3))
        words = self.token(inputs["token"]).mean(1)
        felt = self.sensor(inputs.pop("sensor")).relu()
        return self.head(torch.cat([seen, words, felt], dim=1))
"""
SUITE = """
dataset: {name: "data.py:make", augment: {crop_padding: 1, flip: true}, validation_fraction: 0.2}
teachers: ["model.py:Both"]
students: [{name: "model.py:Both", label: small, args: {width: 4, writes: true}}]
methods: [scratch, kd, {name: fitnet, layer: 1}]
seeds: [0]
recipe: {epochs: 6, batch_size: 24, lr: 0.1, precision: fp32}
measure: {latency: false}
robustness: {corruptions: [brightness], severities: [3]}
"""
COUNTED = Protocol(devices=())
INPUTS = InputSpec(
    {
        "image": Field((1, 6, 6)),
        "token": Field((2,), "int64", 5, 8),
        "sensor": Field((3,), "float32", -3.0, 7.0),
    }
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("several")
    (folder / "data.py").write_text(DATA)
    (folder / "model.py").write_text(MODEL)
    (folder / "suite.yaml").write_text(SUITE)
    return folder


@pytest.fixture(scope="module")
def finished(folder: Path) -> Path:
    outcome = run(Suite.load(folder / "suite.yaml"), folder / "run")
    assert (outcome.ok, outcome.failed) == (3, 0)
    return outcome.path


def test_the_plan_knows_the_fields_that_batches_have(folder: Path) -> None:
    data = load_dataset("data.py:make", folder=folder)
    inputs = describe_dataset("data.py:make", folder=folder, args={"limit": 30}).inputs
    assert inputs == data.inputs and list(inputs.fields) == ["image", "token", "sensor"]
    assert inputs.fields["image"] == Field((1, 6, 6)) and inputs.fields["token"] == Field((2,), "int64", 5, 8)
    raw = load_dataset("data.py:make", folder=folder, validation_fraction=0).train.fields["sensor"]
    assert (inputs.fields["sensor"].low, inputs.fields["sensor"].high) == (raw.min(), raw.max())


def test_fields_follow_the_rows_of_the_images(folder: Path) -> None:
    data = load_dataset("data.py:make", folder=folder, validation_fraction=0)
    whole = Batches(data.train, data.mean, data.std)
    (everything, labels, _), *rest = list(whole.ordered(200))
    assert not rest and torch.equal(everything["sensor"], data.train.fields["sensor"])
    for augment in (Augment(), Augment(crop_padding=1, flip=True)):
        batches = Batches(data.train, data.mean, data.std, augment=augment)
        for inputs, y, index in batches.epoch(32, torch.Generator().manual_seed(1)):
            assert list(inputs) == ["image", "token", "sensor"]
            assert torch.equal(inputs["sensor"], everything["sensor"][index])
            assert torch.equal(inputs["token"], everything["token"][index])
            assert torch.equal(y, labels[index])
            assert torch.equal(inputs["image"], everything["image"][index]) == (augment == Augment())


def test_every_field_is_part_of_the_checksum(folder: Path, tmp_path: Path) -> None:
    known = load_dataset("data.py:make", folder=folder).checksum
    for name, line in {"sensor": "* 4 +", "token": "integers(5, 7,", "none": "count=120"}.items():
        text = DATA.replace(line, {"sensor": "* 5 +", "token": "integers(6, 8,"}.get(name, line))
        (tmp_path / f"{name}.py").write_text(text)
        other = load_dataset(f"{name}.py:make", folder=tmp_path).checksum
        assert (other == known) == (name == "none")


def test_a_source_of_its_own_file_may_give_fields() -> None:
    images = np.zeros((8, 2, 2, 1), dtype=np.uint8)
    split = Examples(images, np.arange(8) % 2, fields={"sensor": np.zeros((8, 3))})
    with pytest.raises(UserError, match="field 'sensor' of the train split of made is float64: give float32"):
        check("made", Raw(split, split, ("a", "b")), None, refuse)
    good = replace(split, fields={"sensor": np.ones((8, 3), dtype=np.float32)})
    raw = Raw(good, good, ("a", "b"))
    check("made", raw, None, refuse)
    assert raw.inputs == InputSpec({"image": Field((1, 2, 2)), "sensor": Field((3,), "float32", 1.0, 1.0)})
    assert raw.train.take(np.array([1, 2])).fields["sensor"].shape == (2, 3)


def test_a_field_alone_is_a_tensor_and_the_data_need_no_image(folder: Path) -> None:
    data = load_dataset("data.py:numbers", folder=folder)
    inputs, _, _ = next(Batches(data.train, data.mean, data.std).epoch(8, torch.Generator()))
    assert inputs.shape == (8, 3) and (data.mean, data.std) == ((), ())
    text = SUITE.replace("data.py:make", "data.py:numbers").replace(
        "augment: {crop_padding: 1, flip: true}, ", ""
    )
    (folder / "numbers.yaml").write_text(text)
    (folder / "dense.py").write_text(
        "from torch import nn\ndef net(inputs, num_classes):\n    return nn.Linear(3, num_classes)\n"
    )
    overrides = [
        "teachers=['dense.py:net']",
        "students=[{name: 'dense.py:net', label: same}]",
        "methods=[scratch, kd]",
        "robustness=null",
    ]
    outcome = run(Suite.load(folder / "numbers.yaml", overrides), folder / "numbers")
    assert (outcome.ok, outcome.failed) == (2, 0)
    for asked, field in (("robustness={}", "robustness"), ("dataset.augment.flip=true", "dataset.augment")):
        with pytest.raises(UserError, match=f"^{field} is for images"):
            make_plan(Suite.load(folder / "numbers.yaml", [*overrides, asked]))
    with pytest.raises(UserError, match="dataset argument size is for images"):
        load_dataset("data.py:numbers", folder=folder, args={"size": 4})


def test_students_of_several_inputs_learn_and_are_counted(finished: Path) -> None:
    records = list(RunDirectory.open(finished).records())
    methods = {record.method for record in records if record.role == "student"}
    assert methods == {"scratch", "kd", "fitnet(layer=1)"}
    for record in records:
        assert record.metrics["top1"] > 0.8, "the class stands in the sensor"
        assert record.metrics["corruption_accuracy_mean"] > 0.8
        assert record.metrics["macs"] == (36 * 9 + 3 + 9) * (4 if record.role == "student" else 8)
    manifest = RunDirectory.open(finished).manifest()
    assert list(InputSpec.recorded(manifest).fields) == ["image", "token", "sensor"]
    assert "input_shape" not in manifest


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_a_cast_leaves_whole_numbers_what_they_are(folder: Path, dtype: str) -> None:
    methods = f"methods=[{{chain: [kd, {{cast: {{dtype: {dtype}}}}}], label: cast}}]"
    suite = Suite.load(folder / "suite.yaml", [methods, "robustness=null", "recipe.epochs=2"])
    outcome = run(suite, folder / dtype)
    assert (outcome.ok, outcome.failed) == (1, 0)
    (record,) = (record for record in RunDirectory(outcome.path).records() if record.role == "student")
    before = RunDirectory(outcome.path).record(record.start)
    assert record.metrics["top1"] == pytest.approx(before.metrics["top1"], abs=0.05)


def test_a_zoo_model_takes_one_image_and_says_so(finished: Path) -> None:
    with pytest.raises(UserError, match="'cnn_4' takes one image, not inputs of image 1 × 6 × 6, token 2"):
        build_model("cnn_4", inputs=INPUTS, num_classes=3)


@pytest.mark.parametrize("to", ["onnx", "torch-export", "safetensors"])
def test_a_student_of_several_inputs_is_exported(finished: Path, tmp_path: Path, to: str) -> None:
    (id,) = (r.id for r in RunDirectory.open(finished).records() if r.method == "kd")
    student = trained_student(RunDirectory.open(finished), id)
    exported = export(student, to, tmp_path / f"student.{to}")
    assert exported.parity.holds
    assert student.card["input"].startswith("a mapping of image float32 (batch, channels, height, width)")
    if to == "onnx":
        session = onnxruntime.InferenceSession(exported.path)
        inputs = student.inputs.example(5)
        (found,) = session.run(["logits"], {name: values.numpy() for name, values in inputs.items()})
        with torch.no_grad():
            np.testing.assert_allclose(found, student.model(inputs), rtol=1e-4, atol=1e-5)


def test_a_model_of_several_inputs_is_measured(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    report = measure([ModelJob("both", "model.py:Both")], inputs=INPUTS, num_classes=3, protocol=COUNTED)
    assert report.metrics["both"]["macs"] == 8 * (36 * 9 + 3 + 9), report.reasons
    assert InputSpec.from_json(report.conditions["inputs"]) == INPUTS


@pytest.mark.parametrize("runtime", ["eager", "compile", "export", "onnx"])
@pytest.mark.parametrize("writes", [False, True])
def test_every_runtime_takes_several_inputs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, runtime: str, writes: bool
) -> None:
    monkeypatch.chdir(folder)
    model = build_model("model.py:Both", inputs=INPUTS, num_classes=3, args={"writes": writes})
    inputs, trial = INPUTS.example(4), try_out(model, INPUTS)
    assert trial.failure is None and trial.changes_input == writes
    call = prepare(model, inputs, Place("cpu", 4, runtime=runtime), trial)
    with torch.inference_mode():
        expected = model.eval()(copied(inputs))
        for _ in range(2):
            restore(call)
            output = call()
            found = torch.from_numpy(output[0]) if runtime == "onnx" else output
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert same(inputs, INPUTS.example(4)), "what others are shown is left alone"
