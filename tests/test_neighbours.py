"""No plug-in reaches its neighbours: each gives beside spoilers the bits that it gives alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from kdbench.data import Augment, Batches, load_entry
from kdbench.data.corruptions import corrupt, corruptions
from kdbench.efficiency.latency import cpu_timer, warm_up
from kdbench.efficiency.protocol import Protocol
from kdbench.efficiency.runtimes import prepare
from kdbench.exporting import TrainedStudent, export
from kdbench.exporting.cell import _build
from kdbench.inputs import InputSpec
from kdbench.models import build_model
from kdbench.models.trial import try_out
from kdbench.place import Place
from kdbench.plan import Plan, make_plan
from kdbench.runner.assembly import first_network, trainee_of
from kdbench.runner.session import Fitted, Session
from kdbench.suite import Suite
from kdbench.suite.schema import ModelEntry
from kdbench.training.cohort import train
from kdbench.training.evaluation import predict
from kdbench.training.trainee import Trainee, Tutor

SHAPE = (1, 8, 8)
INPUTS = InputSpec.image(SHAPE)
PARTS = '''
import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from kdbench.methods import Distiller, method


class Plain(nn.Module):
    """Draws from every random stream, so that it shows whether anybody else has drawn from them."""

    rate = 0.1

    def __init__(self, input_shape, num_classes):
        super().__init__()
        self.convolution = nn.Conv2d(input_shape[0], 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4 * 64, num_classes)

    def forward(self, x):
        noise = random.random() + np.random.rand() if self.training else 1
        x = F.dropout(self.convolution(0.5 * x), self.rate)
        return self.head(noise * F.relu(self.norm(x)).flatten(1))


class Spoiler(Plain):
    """Changes what it sees, also past torch's counter of changes, and everything that is torch's own."""

    def forward(self, x):
        y = super().forward(x.relu_())
        x.data.fill_(7)
        x.numpy(force=True)[:] = 3
        torch.manual_seed(1), random.seed(1), np.random.seed(1)
        torch.set_num_threads(3)
        torch.set_default_dtype(torch.float64)
        return y


class InPlace(Plain):
    rate = 0

    def forward(self, x):
        return super().forward(x.mul_(0.5))


class OutOfPlace(Plain):
    rate = 0

    def forward(self, x):
        return super().forward(0.5 * x)


@method("spoiling", title="Spoils", source="none", year=2020)
class Spoiling(Distiller):
    """Changes everything that it is handed."""

    needs = frozenset({"logits", "pooled", "stages"})

    def prepare(self, networks):
        networks.labels.zero_()
        for parameter in networks.teacher.parameters():
            parameter.data.zero_()

    def losses(self, student, teacher, batch):
        loss = F.cross_entropy(student.logits, batch.target.clone())
        batch.run(lambda x: x.zero_())
        for tensor in (batch.target, batch.index, teacher.logits, teacher.pooled, *teacher.stages):
            tensor.zero_()
        return {"ce": loss}

    def after_step(self, student, teacher, epoch_ended, ended):
        for parameter in teacher.parameters():
            parameter.data.zero_()
        torch.set_grad_enabled(False)


@method("gentle", title="KD by hand", source="none", year=2020)
class Gentle(Distiller):
    needs = frozenset({"logits", "pooled"})

    def losses(self, student, teacher, batch):
        apart = (student.logits - teacher.logits).square().mean() + teacher.pooled.mean()
        return {"ce": F.cross_entropy(student.logits, batch.target), "apart": apart}
'''
SUITE = """
dataset: {{name: digits, args: {{limit: 60, limit_test: 40}}, validation_fraction: 0.3}}
teachers: [{{name: "{file}:Plain", label: teacher}}]
students:
  - {{name: "{file}:Spoiler", label: spoiler}}
  - {{name: "{file}:Plain", label: plain}}
  - {{name: cnn_2, label: dropping, args: {{dropout: 0.4}}}}
methods:
  - {{name: "{file}:Spoiling", students: [spoiler, dropping]}}
  - {{name: scratch}}
  - {{name: "{file}:Gentle", students: [plain]}}
  - {{name: fitnet, layer: pooled, students: [dropping]}}
  - {{name: crd, students: [dropping]}}
  - {{name: interpolate, students: [plain]}}
  - {{name: dml, students: [spoiler, dropping]}}
seeds: [0]
recipe: {{epochs: 2, batch_size: 20, lr: 0.05, precision: fp32}}
measure: {{latency: false}}
"""


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("neighbours") / "parts.py"
    file.write_text(PARTS)
    return file


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    """Whatever a spoiler leaves behind should a test fail, the next test begins as usual."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.set_grad_enabled(True)
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def plan(parts: Path) -> Plan:
    (parts.parent / "suite.yaml").write_text(SUITE.format(file=parts))
    return make_plan(Suite.load(parts.parent / "suite.yaml"))


@pytest.fixture(scope="module")
def session(plan: Plan) -> Session:
    return Session(plan.suite.dataset, load_entry(plan.suite.dataset), torch.device("cpu"))


def trained(
    plan: Plan, session: Session, labels: Sequence[str], folder: Path, teacher: nn.Module | None = None
) -> dict[str, Trainee]:
    """Train the cells of these labels, ``student by method``, in one cohort, in the order given."""
    (entry,) = plan.teachers
    if teacher is None:
        torch.manual_seed(4)
        teacher = session.build(entry.entry)
    taps = entry.sketch.taps
    fitted, tutor = Fitted(entry.entry, teacher, taps), Tutor(teacher, taps)
    nodes = {f"{cell.student} by {cell.method}": cell.node for cell in plan.cells}
    trainees = {
        label: trainee_of(nodes[label], session, first_network(nodes[label], session), fitted, tutor)
        for label in labels
    }
    train(
        list(trainees.values()),
        session.train,
        session.validation,
        seed=3,
        checkpoint=folder / "state.pt",
        on_epoch=lambda epoch, trainees: None,
    )
    return trainees


def bits(trainee: Trainee) -> list[bytes]:
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in trainee.history]
    return [
        *(tensor.numpy().tobytes() for tensor in trainee.model.state_dict().values()),
        repr(rows).encode(),
    ]


def test_every_plug_in_gives_beside_spoilers_the_bits_that_it_gives_alone(
    plan: Plan, session: Session, tmp_path: Path
) -> None:
    labels = [f"{cell.student} by {cell.method}" for cell in plan.cells]
    assert len(labels) == 11
    spoiling = [label for label in labels if "spoil" in label]
    assert len(spoiling) == 4
    together = trained(
        plan,
        session,
        [*spoiling, *(label for label in reversed(labels) if label not in spoiling)],
        tmp_path / "together",
    )
    for label in labels:
        (alone,) = trained(plan, session, [label], tmp_path / label.replace("/", "_")).values()
        assert alone.failure is None and together[label].failure is None, label
        assert len(alone.history) == 2
        assert bits(alone) == bits(together[label]), label
    labels_of = load_entry(plan.suite.dataset).train.labels
    assert torch.equal(session.data.train.labels, labels_of), "the data are what they were"


def test_a_network_that_writes_into_its_input_learns_as_one_that_does_not(
    plan: Plan, session: Session, parts: Path, tmp_path: Path
) -> None:
    found = []
    for name in ("InPlace", "OutOfPlace"):
        torch.manual_seed(0)
        teacher = session.build(ModelEntry(name=f"{parts}:{name}"))
        taught = trained(plan, session, ["plain by gentle", "dropping by crd"], tmp_path / name, teacher)
        logits = predict(teacher, session.test), predict(teacher, session.test)
        assert torch.equal(*logits)
        found.append(([bits(trainee) for trainee in taught.values()], logits[0]))
    assert found[0][0] == found[1][0]
    assert torch.equal(found[0][1], found[1][1])


def network(name: str, **options: object) -> nn.Module:
    torch.manual_seed(0)
    return build_model(name, inputs=INPUTS, num_classes=10, **options).eval()


def test_what_is_measured_finds_its_inputs_unchanged_in_every_call(parts: Path) -> None:
    inputs = torch.randn(2, *SHAPE).contiguous(memory_format=torch.channels_last)
    before = inputs.clone()
    model = network(f"{parts}:InPlace")
    seen: list[Tensor] = []
    model.convolution.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
    for runtime in ("eager", "export"):
        call = prepare(model, inputs, Place("cpu", 2, runtime=runtime), try_out(model, INPUTS))
        seen.clear()
        protocol = Protocol(warmup_calls=3, warmup_seconds=0, min_seconds=0, max_seconds=0.001)
        with torch.inference_mode():
            warm_up(call, cpu_timer, protocol)
        assert torch.equal(inputs, before)
        if runtime == "eager":
            assert len(seen) > 1 and all(torch.equal(images, 0.25 * before) for images in seen)


def test_an_exported_network_leaves_the_images_of_whoever_runs_it_alone(parts: Path, tmp_path: Path) -> None:
    entry = ModelEntry(name=f"{parts}:InPlace")
    student = TrainedStudent("cell", _build(entry, INPUTS, 10).eval(), INPUTS, {"classes": []}, entry)
    written = export(student, "torch-export", tmp_path / "student.pt2")
    assert written.parity.difference == 0
    images = torch.randn(3, *SHAPE)
    before = images.clone()
    torch.export.load(written.path).module()(images)
    assert torch.equal(images, before)


def test_corruptions_and_batches_share_nothing_with_what_they_were_made_from(session: Session) -> None:
    images = torch.rand(2, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    before = images.clone()
    for name in corruptions():
        corrupt(images, name, 3).zero_()
        assert torch.equal(images, before), name
    split = session.data.train
    batches = Batches(split, (0.5,), (0.3,), augment=Augment(crop_padding=1, flip=True))

    def one_epoch(spoil: bool) -> list[Tensor]:
        found = []
        for batch in batches.epoch(8, torch.Generator().manual_seed(1)):
            found += [tensor.clone() for tensor in batch]
            for tensor in batch if spoil else ():
                tensor.zero_()
        return found

    first, second = one_epoch(spoil=True), one_epoch(spoil=False)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
