"""Every method on every kind of model: a training step, or a refusal before anything trains."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from kdbench.data import Batches
from kdbench.data.dataset import Split
from kdbench.inputs import InputSpec
from kdbench.methods import FeatureShapes, Networks, Outputs, Pair, Refusal, check_pair, find_method, methods
from kdbench.models import Taps, build_model, feature_shapes, find_taps
from kdbench.suite.schema import Recipe
from kdbench.training.cohort import OnEpoch, train
from kdbench.training.trainee import Trainee, Tutor
from tests.methods.given import losses, make, network_that_trains, networks, outputs, pair

SHAPE = (1, 8, 8)
INPUTS = InputSpec.image(SHAPE)
CLASSES = 3
COUNT = 12
STUDENTS = ("mlp_8", "cnn_2", "gru_8", "vit_32_2")
TEACHERS = ("cnn_4", "vit_32_3")
# What a method needs to be told before it can be used at all.
REQUIRED = {"takd": {"assistants": ("cnn_2",)}}
# The refusals that are right, by method: on these students a map has no counterpart.
NEEDS_STAGES = {"at", "sp", "vid", "nst", "fsp", "ab", "ft", "reviewkd", "simkd", "cat_kd", "mgd", "fitnet"}


def build(name: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return build_model(name, inputs=INPUTS, num_classes=CLASSES)


def pair_of(student: nn.Module, teacher: nn.Module, names: tuple[str, str]) -> Pair:
    shapes = [feature_shapes(model, find_taps(model, INPUTS), INPUTS) for model in (teacher, student)]
    return Pair(names[1], names[0], shapes[0], shapes[1], CLASSES, same_architecture=names[0] == names[1])


def data() -> Batches:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (COUNT, 8, 8, 1), generator=generator, dtype=torch.uint8)
    return Batches(Split(images, torch.arange(COUNT) % CLASSES), (0.5,), (0.3,))


def trainable(method: str, student: str, teacher: str) -> tuple[nn.Module, Taps]:
    """Return what trains under a method, with its first weights."""
    hyper = find_method(method).distiller.Parameters(**REQUIRED.get(method, {}))
    torch.manual_seed(2)
    return network_that_trains(method, hyper, student, teacher, SHAPE, CLASSES)


def prepared(method: str, student_name: str, teacher_name: str) -> Trainee:
    """Return a student that is to train for two epochs of one step, in which staged methods change stage."""
    teacher, student = build(teacher_name, 1), build(student_name, 2)
    of = pair_of(student, teacher, (student_name, teacher_name))
    distiller = find_method(method).distiller
    hyper = distiller.Parameters(**REQUIRED.get(method, {}))
    check_pair(distiller, hyper, of)
    student, own = trainable(method, student_name, teacher_name)
    taps = {"student": own, "teacher": find_taps(teacher, INPUTS)}
    shapes = feature_shapes(student, own, INPUTS)
    assert distiller.network_shapes(hyper, of) in (None, shapes), "the plan takes it for another network"
    made = distiller(hyper, replace(of, student_shapes=shapes))
    made.prepare(
        Networks(
            student=student,
            teacher=teacher,
            taps=taps,
            heads={"student": student.head, "teacher": teacher.head},
            labels=torch.arange(COUNT) % CLASSES,
            fresh=lambda role: build(student_name if role == "student" else teacher_name, 3),
        )
    )
    recipe = Recipe(epochs=2, batch_size=COUNT, lr=1e-4, precision="fp32")
    tutor = Tutor(teacher, taps["teacher"])
    device = torch.device("cpu")
    return Trainee(method, student, taps["student"], made, recipe, device, "fp32", tutor)


def trained(
    method: str, student: str, teacher: str, folder: Path, on_epoch: OnEpoch = lambda *_: None
) -> Trainee:
    trainee = prepared(method, student, teacher)
    train([trainee], data(), data(), seed=4, checkpoint=folder / "state.pt", on_epoch=on_epoch)
    return trainee


class Killed(Exception):
    pass


def kill(epoch: int, trainees: object) -> None:
    raise Killed


@pytest.mark.parametrize("method", sorted(methods()))
def test_every_method_goes_on_from_a_checkpoint_with_the_same_bits(method: str, tmp_path: Path) -> None:
    student = "cnn_4" if method in ("interpolate", "fsp") else "cnn_2"
    whole = trained(method, student, "cnn_4", tmp_path / "whole")
    with pytest.raises(Killed):
        trained(method, student, "cnn_4", tmp_path / "cut", kill)
    resumed = trained(method, student, "cnn_4", tmp_path / "cut")
    assert [row["epoch"] for row in resumed.history] == [1, 2]
    for first, second in ((whole.model, resumed.model), (whole.adapters, resumed.adapters)):
        expected = first.state_dict()
        assert expected.keys() == second.state_dict().keys()
        assert all(torch.equal(value, expected[name]) for name, value in second.state_dict().items())


@pytest.mark.parametrize("method", sorted(methods()))
@pytest.mark.parametrize("student", STUDENTS)
def test_a_method_trains_every_kind_of_student_or_refuses_it(
    method: str, student: str, tmp_path: Path
) -> None:
    for teacher in TEACHERS:
        folder = tmp_path / teacher
        try:
            trainee = trained(method, student, teacher, folder)
        except Refusal as refusal:
            assert student in str(refusal) or teacher in str(refusal)
            no_stages = method in NEEDS_STAGES and student in ("mlp_8", "gru_8")
            assert no_stages or method in ("interpolate", "fsp"), f"refused: {refusal}"
            continue
        assert trainee.failure is None
        assert len(trainee.history) == 2
        fresh = trainable(method, student, teacher)[0].state_dict()
        now = trainee.model.state_dict()
        assert any(not torch.equal(now[name], fresh[name]) for name in fresh), "nothing was learnt"
        original = build(teacher, 1).state_dict()
        for name, value in trainee.tutor.model.state_dict().items():
            assert torch.equal(value, original[name]), "the teacher changed"


@pytest.mark.parametrize("method", ["interpolate", "fsp"])
def test_what_is_refused_elsewhere_works_on_its_own_kind(method: str, tmp_path: Path) -> None:
    assert trained(method, "cnn_4", "cnn_4", tmp_path).failure is None


@pytest.mark.parametrize("method", sorted(NEEDS_STAGES))
def test_methods_on_maps_say_that_a_perceptron_has_no_stages(method: str, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="student 'mlp_8' has no stages"):
        trained(method, "mlp_8", "cnn_4", tmp_path)


@pytest.mark.parametrize("method", ["dkd", "nkd"])
def test_two_classes_leave_nothing_to_the_non_target_part(method: str) -> None:
    shapes = FeatureShapes((2,), (4,), ())
    distiller = find_method(method).distiller
    with pytest.raises(Refusal, match="2 classes"):
        check_pair(distiller, distiller.Parameters(), pair(shapes, shapes, classes=2))


@pytest.mark.parametrize("name", sorted(methods()))
@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("progress", [0.01, 0.9])
def test_losses_and_gradients_are_finite_at_extreme_logits(name: str, scale: float, progress: float) -> None:
    shapes = FeatureShapes((3,), (5,), ((5, 4, 4), (5, 2, 2)))
    of = pair(shapes, shapes, same=True)
    distiller = make(name, of, **REQUIRED.get(name, {}))
    distiller.prepare(networks(of=of))
    student, teacher = outputs(shapes, scale=scale, seed=1), outputs(shapes, scale=scale, seed=2)
    student = Outputs(
        student.logits,
        student.pooled.requires_grad_(),
        tuple(stage.requires_grad_() for stage in student.stages),
    )
    if name == "dml":  # its peers give extreme logits too
        distiller.peers = nn.ModuleList([Constant(outputs(shapes, scale=scale, seed=3).logits)])
    target = torch.tensor([0, 1, 2, 0, 1, 2])
    shared = teacher.copied()
    terms = losses(distiller, student, teacher, target, progress)
    loss = torch.stack(list(terms.values())).sum()
    loss.backward()
    reached = [
        leaf.grad for leaf in (student.logits, student.pooled, *student.stages) if leaf.grad is not None
    ]
    assert reached
    assert torch.isfinite(loss)
    assert all(torch.isfinite(gradient).all() for gradient in reached)
    # Students of one teacher are shown the same tensors, so a method leaves them as they are.
    assert target.tolist() == [0, 1, 2, 0, 1, 2]
    assert torch.equal(teacher.logits, shared.logits) and torch.equal(teacher.pooled, shared.pooled)
    assert all(torch.equal(a, b) for a, b in zip(teacher.stages, shared.stages, strict=True))


class Constant(nn.Module):
    """Gives the same logits whatever it sees."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits.detach().clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits
