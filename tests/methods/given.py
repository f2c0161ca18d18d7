"""Pairs, outputs and batches for tests of losses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdbench.inputs import InputSpec
from kdbench.methods import Batch, Distiller, FeatureShapes, Networks, Outputs, Pair, check_pair, find_method
from kdbench.models import Taps, build_model, feature_shapes, find_taps
from kdbench.suite.schema import ModelEntry

TINY = InputSpec.image((1, 2, 2))

MAP = FeatureShapes((3,), (5,), ((2, 4, 4), (5, 2, 2)))
WIDE = FeatureShapes((3,), (7,), ((3, 4, 4), (7, 4, 4)))
TOKENS = FeatureShapes((3,), (6,), ((5, 6), (5, 6)))
THREE_STAGES = FeatureShapes((3,), (6,), ((2, 8, 8), (4, 4, 4), (6, 2, 2)))
NO_POOLED = FeatureShapes((3,), None, ((4, 4, 4), (6, 2, 2)))
FINAL = FeatureShapes((3,), (9,), ((2, 4, 4), (5, 2, 2)))
FLAT = FeatureShapes((3,), (4,), ())


def pair(
    teacher: FeatureShapes = WIDE,
    student: FeatureShapes = MAP,
    same: bool = False,
    classes: int = 3,
    target: str = "single_label",
) -> Pair:
    return Pair("T", "S", teacher, student, classes, same_architecture=same, target=target)


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
    student = student or build_model("mlp_4", inputs=TINY, num_classes=of.num_classes)
    teacher = teacher or build_model("mlp_4", inputs=TINY, num_classes=of.num_classes)
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
        fresh=lambda role: build_model("mlp_4", inputs=TINY, num_classes=of.num_classes),
    )


def as_seen(name: str, of: Pair) -> Pair:
    """Return a pair as a method sees it in training: with ``simkd`` the student ends as its teacher does."""
    entry = find_method(name)
    shapes = entry.distiller.network_shapes(entry.parameters.model_construct(), of)
    return replace(of, student_shapes=shapes or of.student_shapes)


def network_that_trains(
    name: str, hyper: Any, student: str, teacher: str, shape: tuple[int, int, int], classes: int
) -> tuple[nn.Module, Taps]:
    """Return what trains under a method where a student is asked for, and where it is tapped."""
    models = (ModelEntry(name=student), ModelEntry(name=teacher))
    own = find_method(name).distiller.network(hyper, *models)
    if own is None:
        model = build_model(student, inputs=InputSpec.image(shape), num_classes=classes)
        return model, find_taps(model, InputSpec.image(shape))
    model = build_model(own["name"], inputs=InputSpec.image(shape), num_classes=classes, args=own["args"])
    return model, Taps(**own["taps"])


def prepared(name: str, of: Pair | None = None, given: Networks | None = None, **hyper: object) -> Any:
    torch.manual_seed(0)
    of = of or pair()
    distiller = make(name, of, **hyper)
    distiller.prepare(given or networks(of=of))
    return distiller


def check(name: str, of: Pair, **hyper: object) -> None:
    distiller = find_method(name).distiller
    check_pair(distiller, distiller.Parameters(**hyper), of)


def leaves(found: Outputs) -> list[Tensor]:
    """Return the features of outputs, which then take a gradient."""
    features = [*found.stages, *([] if found.pooled is None else [found.pooled])]
    return [feature.requires_grad_() for feature in features]


def parameters(distiller: Any) -> list[nn.Parameter]:
    return [parameter for parameter in distiller.adapters().parameters() if parameter.requires_grad]


def mean_squared(x: np.ndarray, y: np.ndarray) -> float:
    total = 0.0
    for a, b in zip(x.ravel(), y.ravel(), strict=True):
        total += (float(a) - float(b)) ** 2
    return total / x.size


def pooled_by_hand(maps: np.ndarray, side: int) -> np.ndarray:
    step = maps.shape[2] // side
    out = np.zeros((*maps.shape[:2], side, side))
    for row in range(side):
        for column in range(side):
            block = maps[:, :, row * step : (row + 1) * step, column * step : (column + 1) * step]
            out[:, :, row, column] = block.mean((2, 3))
    return out


def real_pair(student: str = "cnn_4", teacher: str = "cnn_2") -> tuple[Pair, Networks, dict[str, Any]]:
    """Return a pair of models for 8×8 images with their own heads and taps."""
    torch.manual_seed(0)
    shape = (1, 8, 8)
    models = {
        "student": build_model(student, inputs=InputSpec.image(shape), num_classes=3),
        "teacher": build_model(teacher, inputs=InputSpec.image(shape), num_classes=3),
    }
    taps = {role: find_taps(model, InputSpec.image(shape)) for role, model in models.items()}
    shapes = {
        role: feature_shapes(model, taps[role], InputSpec.image(shape)) for role, model in models.items()
    }
    heads = {role: model.get_submodule(taps[role].pooled) for role, model in models.items()}
    given = replace(networks(models["student"], models["teacher"]), heads=heads, taps=taps)
    return Pair(teacher, student, shapes["teacher"], shapes["student"], 3, False), given, taps
