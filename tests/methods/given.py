"""Pairs, outputs and batches for tests of losses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kdbench.methods import Batch, Distiller, FeatureShapes, Networks, Outputs, Pair, find_method
from kdbench.models import Taps, build_model

MAP = FeatureShapes((3,), (5,), ((2, 4, 4), (5, 2, 2)))
WIDE = FeatureShapes((3,), (7,), ((3, 4, 4), (7, 4, 4)))
TOKENS = FeatureShapes((3,), (6,), ((5, 6), (5, 6)))
FLAT = FeatureShapes((3,), (4,), ())


def pair(
    teacher: FeatureShapes = WIDE, student: FeatureShapes = MAP, same: bool = False, classes: int = 3
) -> Pair:
    return Pair("T", "S", teacher, student, classes, same_architecture=same)


def make(name: str, of: Pair | None = None, **hyper: object) -> Any:
    distiller = find_method(name).distiller
    return distiller(distiller.Parameters(**hyper), of or pair())


def batch(target: list[int] | Tensor, progress: float = 0.5) -> Batch:
    labels = torch.as_tensor(target)
    return Batch(labels, torch.arange(len(labels)), progress, lambda model: model(torch.zeros(1)))


def losses(
    distiller: Distiller, student: Outputs, teacher: Outputs | None, target: Any, progress: float = 0.5
) -> dict[str, Tensor]:
    return distiller.losses(student, teacher, batch(target, progress))


def total(terms: dict[str, Tensor]) -> float:
    return torch.stack(list(terms.values())).sum().item()


def outputs(shapes: FeatureShapes, count: int = 6, scale: float = 1.0, seed: int = 0) -> Outputs:
    """Return random outputs of the given shapes; the logits take a gradient."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator)

    logits = (scale * draw(*shapes.logits)).bfloat16().float().requires_grad_()
    pooled = None if shapes.pooled is None else draw(*shapes.pooled)
    return Outputs(logits, pooled, tuple(draw(*stage) for stage in shapes.stages))


def networks(
    student: nn.Module | None = None,
    teacher: nn.Module | None = None,
    count: int = 12,
    of: Pair | None = None,
) -> Networks:
    """Return networks for ``prepare``; by default small ones whose heads fit the shapes of ``of``."""
    of = of or pair()
    student = student or build_model("mlp_4", input_shape=(1, 2, 2), num_classes=of.num_classes)
    teacher = teacher or build_model("mlp_4", input_shape=(1, 2, 2), num_classes=of.num_classes)
    heads = {
        role: nn.Linear(shapes.pooled[0], of.num_classes)
        for role in ("student", "teacher")
        if (shapes := of.shapes(role)).pooled is not None
    }
    return Networks(
        student=student,
        teacher=teacher,
        taps={"student": Taps(), "teacher": Taps()},
        heads=heads,
        labels=torch.arange(count) % of.num_classes,
        fresh=lambda role: build_model("mlp_4", input_shape=(1, 2, 2), num_classes=of.num_classes),
    )
