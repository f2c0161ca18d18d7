"""Networks of a user's own in a suite: taken as they are where that is possible, refused in one line else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from kdbench.efficiency import ModelJob
from kdbench.efficiency.protocol import Protocol
from kdbench.efficiency.worker import measure_job
from kdbench.errors import UserError
from kdbench.exporting import export, trained_student
from kdbench.inputs import InputSpec
from kdbench.models import build_model
from kdbench.plan import make_plan
from kdbench.runner import run
from kdbench.store import RunDirectory
from kdbench.suite import Suite
from tests.test_run import Listening

Load = Callable[..., Suite]
NETWORKS = """
import torch
from torch import nn
import torch.nn.functional as F


class Base(nn.Module):
    def __init__(self, input_shape, num_classes):
        super().__init__()
        self.convolution = nn.Conv2d(input_shape[0], 4, 3, padding=1)
        self.head = nn.Linear(4 * 16, num_classes)

    def forward(self, x):
        maps = F.max_pool2d(F.relu(self.convolution(x)), 2)
        return self.head(maps.flatten(1))


class LeNet(nn.Module):
    def __init__(self, input_shape, num_classes):
        super().__init__()
        self.conv1 = nn.Conv2d(input_shape[0], 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 16, 3, padding=1)
        self.fc = nn.Linear(16 * 4, num_classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.norm(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc(x.view(x.size(0), -1))


class SinglePrecision(Base):
    def forward(self, x):
        maps = F.max_pool2d(F.relu(self.convolution(x)), 2).flatten(1)
        with torch.autocast("cpu", enabled=False):
            return self.head(maps)


class Dictionary(Base):
    def forward(self, x):
        return {"images": x, "logits": super().forward(x)}


class Auxiliary(Base):
    def forward(self, x):
        y = super().forward(x)
        return (y, y) if self.training else y


class Lazy(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.convolution = nn.LazyConv2d(4, 3)
        self.head = nn.LazyLinear(num_classes)

    def forward(self, x):
        return self.head(F.relu(self.convolution(x)).flatten(1))


class Unreached(Lazy):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.other = nn.LazyLinear(3)


class Segments(Base):
    def forward(self, x):
        return {"out": super().forward(x)}


class LossInTraining(Base):
    def forward(self, x):
        y = super().forward(x)
        return {"loss": y} if self.training else y


class Nothing(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.classes = num_classes

    def forward(self, x):
        return x.flatten(1)[:, : self.classes]


class Detached(Base):
    def forward(self, x):
        return super().forward(x).detach()


class Dropping(Base):
    def forward(self, x):
        return super().forward(F.dropout(x, 0.2))


class Preactivated(Base):
    def forward(self, x):
        maps = F.max_pool2d(F.relu(self.convolution(x), inplace=True), 2)
        return self.head(maps.flatten(1))


ONLY = []


def once(input_shape, num_classes):
    ONLY.append(Base(input_shape, num_classes))
    return ONLY[0]


def scripted(num_classes):
    return torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes)))
"""


@pytest.fixture
def networks(tmp_path: Path) -> Path:
    file = tmp_path / "networks.py"
    file.write_text(NETWORKS)
    return file


def student(networks: Path, name: str) -> str:
    return f"students=[{{name: '{networks}:{name}', label: mine}}]"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "Segments",
            "it must return logits of shape (batch, classes): as a tensor, .*returned dict with out",
        ),
        ("LossInTraining", "cannot be trained on .*: in training it must return logits .* dict with loss"),
        ("Nothing", "it has no parameter that can be trained"),
        ("Detached", "it cannot be trained on inputs of 1 × 8 × 8: RuntimeError: element 0"),
        ("Unreached", "its lazy weight 'other.weight' has no shape after a forward pass"),
        ("once", "its factory returns the same weights twice"),
        ("scripted", "it is compiled by TorchScript"),
    ],
)
def test_what_could_not_be_trained_is_refused_before_anything_trains(
    small_suite: Load, networks: Path, name: str, expected: str
) -> None:
    with pytest.raises(UserError) as caught:
        make_plan(small_suite(student(networks, name)))
    text = str(caught.value)
    assert text.startswith("student 'mine': ") and "\n" not in text
    at = 0
    for part in expected.split(".*"):
        assert part in text[at:], text
        at = text.index(part, at) + len(part)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Base", None),
        ("Dictionary", None),
        ("Lazy", None),
        ("LeNet", "it fails in channels_last memory"),
        ("Auxiliary", "in training it returns tuple of 2: its logits are taken, and auxiliary heads are not"),
        ("Dropping", "it gives other logits when it is shown the same inputs again"),
        ("Preactivated", "stage 'convolution' is changed in place by a later module"),
    ],
)
def test_what_a_person_should_know_of_a_network_is_said(
    small_suite: Load, networks: Path, name: str, expected: str | None
) -> None:
    remarks = make_plan(small_suite(student(networks, name))).remarks
    assert len(remarks) == (expected is not None)
    assert expected is None or remarks[0].startswith(f"student 'mine': {expected}")


def test_a_network_that_fails_in_the_precision_of_the_recipe_is_refused(
    small_suite: Load, networks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    mine = student(networks, "SinglePrecision")
    assert make_plan(small_suite(mine, "recipe.precision=fp32")).cells
    expected = r"works in float32 but not in bf16.*RuntimeError.*write recipe: \{precision: fp32\}"
    with pytest.raises(UserError, match=expected):
        make_plan(small_suite(mine, "recipe.precision=bf16"))
    assert make_plan(small_suite(student(networks, "Base"), "recipe.precision=bf16")).cells


def test_a_teacher_that_comes_with_its_weights_need_not_be_one_that_trains(
    small_suite: Load, networks: Path, tmp_path: Path
) -> None:
    model = build_model(f"{networks}:Detached", inputs=InputSpec.image((1, 8, 8)), num_classes=10)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    teacher = f"{{name: '{networks}:Detached', label: given, checkpoint: {tmp_path / 'weights.pt'}}}"
    assert make_plan(small_suite(f"teachers=[{teacher}]")).teachers[0].label == "given"


def test_lazy_weights_are_those_of_their_seed(networks: Path) -> None:
    def build() -> dict[str, torch.Tensor]:
        torch.manual_seed(5)
        model = build_model(f"{networks}:Lazy", inputs=InputSpec.image((1, 8, 8)), num_classes=10)
        assert sum(parameter.numel() for parameter in model.parameters()) == 4 * 9 + 4 + 10 * (4 * 36) + 10
        return model.state_dict()

    first, second = build(), build()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_networks_of_all_kinds_are_trained_and_kept(
    small_suite: Load, networks: Path, tmp_path: Path
) -> None:
    names = ("LeNet", "Dictionary", "Auxiliary", "Lazy")
    students = ", ".join(f"{{name: '{networks}:{name}', label: {name}}}" for name in names)
    suite = small_suite(
        f"students=[{students}]",
        f"teachers=[{{name: '{networks}:LeNet', label: teacher, recipe: {{epochs: 4}}}}]",
        "methods=[kd]",
        "recipe.lr=0.05",
        "recipe.epochs=6",
        "seeds=[0]",
        "robustness={corruptions: [contrast], severities: [3], examples: 20}",
    )
    told = Listening()
    outcome = run(suite, tmp_path / "run", progress=told)
    assert (outcome.ok, outcome.failed) == (4, 0)
    assert sum("fails in channels_last memory" in warning for warning in told.warnings) == 1
    directory = RunDirectory.open(outcome.path)
    for record in directory.records():
        viewing = record.role == "teacher" or record.student == "LeNet"
        expected = "contiguous" if viewing else "channels_last"
        assert record.provenance["memory_format"] == expected
        assert record.metrics["top1"] > 0.3
    lenet = next(record.id for record in directory.records() if record.student == "LeNet")
    exported = export(trained_student(directory, lenet), "torch-export", tmp_path / "lenet.pt2")
    assert exported.parity.holds


def test_a_network_is_timed_in_the_memory_format_that_it_takes(networks: Path, tmp_path: Path) -> None:
    protocol = Protocol(
        batch_sizes=(2,),
        devices=("cpu",),
        min_samples=11,
        min_seconds=0.0,
        max_seconds=2.0,
        warmup_calls=1,
        warmup_seconds=0.0,
        probe_seconds=0.01,
    )
    names = (f"{networks}:LeNet", f"{networks}:Base", "cnn_2")
    job = {
        "models": [asdict(ModelJob(name, name)) for name in names],
        "failures": {},
        "inputs": InputSpec.image((2, 8, 8)).as_json(),
        "num_classes": 10,
        "reference": None,
        "protocol": protocol.as_json(),
    }
    measure_job(job, tmp_path, lambda event: None)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["failures"] == {name: {} for name in names}
    formats = ("contiguous", "channels_last", "channels_last")
    assert result["memory_formats"] == dict(zip(names, formats, strict=True))
