"""Shuffled logits: what stays, what is lost, and that every order is as likely as any other."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from scipy import stats
from torch import Tensor

from kdbench.data import Batches
from kdbench.data.dataset import Split
from kdbench.inputs import InputSpec
from kdbench.methods import Batch, Pair, find_method
from kdbench.models import Outputs, build_model, feature_shapes, find_taps
from kdbench.suite.schema import Recipe
from kdbench.training.cohort import train
from kdbench.training.shuffled import shuffled, split_mix
from kdbench.training.trainee import Trainee, Tutor

SHAPE, CLASSES = (1, 8, 8), 4
INPUTS = InputSpec.image(SHAPE)
# The first numbers of the generator's reference implementation from the state 1234567.
STATE = 1234567
REFERENCE = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]


def test_the_generator_gives_the_numbers_of_its_reference_implementation() -> None:
    states = [(STATE + 0x9E3779B97F4A7C15 * step) % 2**64 for step in range(1, 5)]
    signed = torch.tensor([state - 2**64 if state >= 2**63 else state for state in states])
    assert [number % 2**64 for number in split_mix(signed).tolist()] == REFERENCE


def test_each_row_keeps_its_values_and_so_its_entropy_at_any_temperature() -> None:
    logits = torch.randn(200, 10, generator=torch.Generator().manual_seed(0))
    mixed = shuffled(logits, torch.arange(200), seed=3)
    assert torch.equal(mixed.sort(dim=1).values, logits.sort(dim=1).values)
    assert not torch.equal(mixed, logits)
    for temperature in (1.0, 4.0):
        entropies = [
            torch.distributions.Categorical(logits=z / temperature).entropy() for z in (mixed, logits)
        ]
        assert torch.allclose(*entropies, atol=1e-5)


def test_an_example_has_one_order_whatever_its_batch() -> None:
    rows = torch.arange(8.0).repeat(50, 1)
    whole = shuffled(rows, torch.arange(50), seed=1)
    places = torch.tensor([41, 3, 17])
    assert torch.equal(shuffled(rows[:3], places, seed=1), whole[places])
    assert not torch.equal(shuffled(rows, torch.arange(50), seed=2), whole)
    assert len({tuple(row) for row in whole.tolist()}) == 50


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_every_order_is_equally_likely(seed: int) -> None:
    rows = torch.arange(4.0).repeat(4800, 1)
    orders = [tuple(row) for row in shuffled(rows, torch.arange(4800), seed).int().tolist()]
    counts = [orders.count(order) for order in itertools.permutations(range(4))]
    assert sum(counts) == 4800
    assert stats.chisquare(counts).pvalue > 1e-3


def test_the_classes_of_a_knowing_teacher_become_chance() -> None:
    labels = torch.arange(2000) % 10
    knowing = torch.nn.functional.one_hot(labels, 10).float()
    right = int((shuffled(knowing, torch.arange(2000), seed=5).argmax(1) == labels).sum())
    assert stats.binomtest(right, 2000, 0.1).pvalue > 1e-3


def trainee(shuffle_seed: int | None, method: str = "kd", **hyper: object) -> Trainee:
    torch.manual_seed(1)
    model = build_model("mlp_8", inputs=INPUTS, num_classes=CLASSES)
    torch.manual_seed(2)
    teacher = build_model("cnn_2", inputs=INPUTS, num_classes=CLASSES)
    shapes = [feature_shapes(m, find_taps(m, INPUTS), INPUTS) for m in (teacher, model)]
    distiller = find_method(method).distiller
    made = distiller(distiller.Parameters(**hyper), Pair("cnn_2", "mlp_8", *shapes, CLASSES, False))
    return Trainee(
        "one",
        model,
        find_taps(model, INPUTS),
        made,
        Recipe(epochs=4, batch_size=8, precision="fp32"),
        torch.device("cpu"),
        "fp32",
        tutor=Tutor(teacher, find_taps(teacher, INPUTS)),
        shuffle_seed=shuffle_seed,
    )


def trained(one: Trainee, checkpoint: Path, stop: int = 99) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 255, (40, 8, 8, 1), generator=generator, dtype=torch.uint8)
    batches = Batches(Split(images, torch.arange(40) % CLASSES), (0.5,), (0.25,))

    def on_epoch(epoch: int, _: object) -> None:
        if epoch == stop:
            raise KeyboardInterrupt

    train([one], batches, batches, seed=7, checkpoint=checkpoint, on_epoch=on_epoch)
    assert one.failure is None
    return list(one.model.state_dict().values())


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_student_of_a_random_teacher_resumes_with_the_same_bits(tmp_path: Path) -> None:
    whole = trained(trainee(shuffle_seed=5), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(trainee(shuffle_seed=5), tmp_path / "cut", stop=2)
    assert same(trained(trainee(shuffle_seed=5), tmp_path / "cut"), whole)
    assert not same(trained(trainee(shuffle_seed=6), tmp_path / "other"), whole)
    assert not same(trained(trainee(shuffle_seed=None), tmp_path / "taught"), whole)


def test_the_random_teacher_shows_nothing_but_logits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    one = trainee(shuffle_seed=5, method="sp")
    seen: list[Outputs] = []

    def losses(student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        seen.append(teacher)
        return {"ce": student.logits.sum()}

    monkeypatch.setattr(one.distiller, "losses", losses)
    trained(one, tmp_path / "state")
    assert seen and all(shown.pooled is None and shown.stages == () for shown in seen)
