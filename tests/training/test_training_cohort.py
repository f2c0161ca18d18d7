"""The cohort engine: one teacher pass a batch, independent students, exact resumption."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from kdbench.data import Augment, Batches
from kdbench.data.dataset import Split
from kdbench.errors import UserError
from kdbench.inputs import InputSpec
from kdbench.methods import Networks, Pair, find_method
from kdbench.models import build_model, feature_shapes, find_taps
from kdbench.suite.schema import Recipe
from kdbench.training.cohort import EXAMPLES, train
from kdbench.training.trainee import Trainee, Tutor

SHAPE = (1, 8, 8)
INPUTS = InputSpec.image(SHAPE)
CLASSES = 3
RECIPE = Recipe(epochs=3, batch_size=16, lr=0.05, precision="fp32")


def blobs(count: int = 90) -> Split:
    """Return images whose class is the row of a bright bar."""
    generator = torch.Generator().manual_seed(7)
    labels = torch.arange(count) % CLASSES
    images = torch.randint(0, 80, (count, 8, 8, 1), generator=generator, dtype=torch.uint8)
    for row, label in enumerate(labels.tolist()):
        images[row, 2 * label : 2 * label + 2] += 150
    return Split(images, labels)


def batches(split: Split, augment: Augment | None = None) -> Batches:
    return Batches(split, (0.3,), (0.25,), device="cpu", augment=augment)


def student(
    name: str, method: str, key: str, teacher: str = "cnn_2", recipe: Recipe = RECIPE, **hyper: object
) -> Trainee:
    torch.manual_seed(hash(name) % 1000)
    model = build_model(name, inputs=INPUTS, num_classes=CLASSES)
    reference = build_model(teacher, inputs=INPUTS, num_classes=CLASSES)
    shapes = [feature_shapes(m, find_taps(m, INPUTS), INPUTS) for m in (reference, model)]
    pair = Pair(teacher, name, shapes[0], shapes[1], CLASSES, same_architecture=teacher == name)
    torch.manual_seed(5)
    distiller = find_method(method).distiller
    made = distiller(distiller.Parameters(**hyper), pair)
    made.prepare(
        Networks(
            student=model,
            teacher=reference,
            taps={"student": find_taps(model, INPUTS), "teacher": find_taps(reference, INPUTS)},
            heads={"student": model.head, "teacher": reference.head},
            labels=blobs().labels,
            fresh=lambda role: build_model(
                teacher if role == "teacher" else name, inputs=INPUTS, num_classes=CLASSES
            ),
        )
    )
    return Trainee(key, model, find_taps(model, INPUTS), made, recipe, torch.device("cpu"), "fp32")


def tutor() -> Tutor:
    torch.manual_seed(3)
    model = build_model("cnn_2", inputs=INPUTS, num_classes=CLASSES)
    return Tutor(model, find_taps(model, INPUTS))


def run(
    trainees: list[Trainee],
    path: Path,
    teacher: Tutor | None = None,
    on_epoch: Callable[[int, object], None] = lambda epoch, trainees: None,
) -> None:
    split = blobs()
    for trainee in trainees:
        trainee.tutor = teacher
    train(
        trainees,
        batches(split, Augment(crop_padding=1, flip=True)),
        batches(blobs(30)),
        seed=11,
        checkpoint=path,
        on_epoch=on_epoch,
    )


def weights(trainee: Trainee) -> list[Tensor]:
    return [value.clone() for value in trainee.model.state_dict().values()]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def five() -> list[Trainee]:
    return [
        student("cnn_2", "scratch", "a"),
        student("cnn_4", "kd", "b"),
        student("mlp_8", "kd", "c", temperature=1),
        student("cnn_4", "fitnet", "d"),
        student("gru_8", "fitnet", "e", layer="pooled"),
    ]


def test_the_teacher_runs_once_a_batch_for_five_students(tmp_path: Path) -> None:
    teacher = tutor()
    calls = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if len(inputs[0]) > EXAMPLES:  # the folded copy is compared with the teacher on a few images first
            calls.append(module.training)

    teacher.model.register_forward_hook(note)
    run(five(), tmp_path / "state.pt", teacher)
    steps = -(-90 // RECIPE.batch_size)
    assert len(calls) == steps * RECIPE.epochs
    assert not any(calls)  # always in evaluation mode


def test_the_teacher_does_not_run_for_controls_and_its_weights_never_change(tmp_path: Path) -> None:
    teacher = tutor()
    before = [value.clone() for value in teacher.model.state_dict().values()]
    calls = []
    teacher.model.register_forward_hook(lambda module, inputs, output: calls.append(1))
    run([student("cnn_2", "scratch", "a")], tmp_path / "a.pt", teacher)
    assert calls == []
    run(five(), tmp_path / "b.pt", teacher)
    assert same(before, list(teacher.model.state_dict().values()))


def test_students_learn(tmp_path: Path) -> None:
    recipe = RECIPE.model_copy(update={"epochs": 12})
    trainee = student("cnn_4", "scratch", "a", recipe=recipe)
    run([trainee], tmp_path / "state.pt", tutor())
    assert trainee.best is not None and trainee.best.headline > 0.9
    assert trainee.history[-1]["loss"] < trainee.history[0]["loss"]  # type: ignore[operator]


def test_a_student_does_not_depend_on_who_else_is_in_the_cohort(tmp_path: Path) -> None:
    # dropout draws random numbers while others train
    def dropping() -> Trainee:
        trainee = student("cnn_2", "kd", "same")
        trainee.model.dropout.p = 0.5
        return trainee

    alone, together = dropping(), dropping()
    run([alone], tmp_path / "a.pt", tutor())
    run([student("mlp_8", "scratch", "x"), together, student("gru_8", "kd", "y")], tmp_path / "b.pt", tutor())
    assert same(weights(alone), weights(together))


class Killed(Exception):
    pass


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_run_that_is_cut_off_ends_with_the_same_bits(tmp_path: Path, after: int) -> None:
    whole = five()
    run(whole, tmp_path / "whole.pt", tutor())

    def stop(epoch: int, trainees: object) -> None:
        if epoch == after:
            raise Killed

    with pytest.raises(Killed):
        run(five(), tmp_path / "cut.pt", tutor(), stop)
    resumed = five()
    seen: list[int] = []
    run(resumed, tmp_path / "cut.pt", tutor(), lambda epoch, trainees: seen.append(epoch))
    assert seen == list(range(after, 4))
    for mine, theirs in zip(whole, resumed, strict=True):
        assert same(weights(mine), weights(theirs))
        assert mine.best is not None and theirs.best is not None and mine.best.epoch == theirs.best.epoch
        assert same(list(mine.best.weights.values()), list(theirs.best.weights.values()))
        strip = [{key: row[key] for key in row if key != "seconds"} for row in mine.history]
        assert strip == [{key: row[key] for key in row if key != "seconds"} for row in theirs.history]


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_bytes(b"PK but not a checkpoint")
    with pytest.raises(UserError, match=r"state\.pt is damaged, .*: delete it"):
        run([student("cnn_2", "scratch", "a")], tmp_path / "state.pt", tutor())


def test_a_diverging_student_leaves_and_the_others_go_on(tmp_path: Path) -> None:
    wild = student("cnn_2", "scratch", "wild", recipe=RECIPE.model_copy(update={"lr": 1e30}))
    alone, calm = student("cnn_2", "kd", "calm"), student("cnn_2", "kd", "calm")
    run([wild, calm], tmp_path / "a.pt", tutor())
    run([alone], tmp_path / "b.pt", tutor())
    assert wild.failure is not None and wild.failure.startswith("diverged: the loss term 'ce' became")
    assert "in epoch 1" in wild.failure
    assert calm.failure is None and len(calm.history) == 3
    assert same(weights(alone), weights(calm))


def test_a_method_that_raises_ends_its_own_student_only(tmp_path: Path) -> None:
    broken, calm = student("cnn_2", "kd", "broken"), student("cnn_2", "kd", "calm")

    def explode(*args: object) -> dict[str, Tensor]:
        raise ValueError("no such shape")

    broken.distiller.losses = explode  # type: ignore[method-assign]
    run([broken, calm], tmp_path / "state.pt", tutor())
    assert broken.failure is not None and "ValueError: no such shape" in broken.failure
    assert calm.failure is None and len(calm.history) == 3


def test_batch_norm_statistics_move_once_a_step(tmp_path: Path) -> None:
    trainee = student("cnn_2", "kd", "a")
    run([trainee], tmp_path / "state.pt", tutor())
    layer = next(module for module in trainee.model.modules() if isinstance(module, nn.BatchNorm2d))
    assert int(layer.num_batches_tracked) == 6 * RECIPE.epochs


def test_interpolation_at_share_one_gives_the_teachers_function(tmp_path: Path) -> None:
    teacher = tutor()
    trainee = student("cnn_2", "interpolate", "a", lam=1.0)
    run([trainee], tmp_path / "state.pt", teacher)
    for mine, theirs in zip(trainee.model.parameters(), teacher.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_without_validation_there_is_no_best_epoch(tmp_path: Path) -> None:
    trainee = student("cnn_2", "scratch", "a")
    empty = Split(torch.zeros(0, 8, 8, 1, dtype=torch.uint8), torch.zeros(0, dtype=torch.long))
    train(
        [trainee],
        batches(blobs()),
        batches(empty),
        seed=1,
        checkpoint=tmp_path / "state.pt",
        on_epoch=lambda epoch, trainees: None,
    )
    assert trainee.best is None and trainee.history[-1]["validation_top1"] is None
