"""How features of two models are made comparable: which stage meets which, and in what shape.

A stage of a convolutional network is a map (C, H, W). One of a transformer is N tokens of D entries,
which lie on the image as a map (D, √N, √N) once a class token, if there is one, is left out. Stages meet
from the last backwards, so that the deepest of both models always correspond, whatever their number.
"""

from __future__ import annotations

from kdbench.deferred import F, Tensor, nn, torch
from kdbench.methods.base import Pair, Refusal, Role
from kdbench.models.shapes import Outputs, as_map, map_shape

ROLES: tuple[Role, Role] = ("teacher", "student")
NO_DIRECTION = 1e-12


def stage_pairs(pair: Pair) -> list[tuple[int, int]]:
    """Return which stages meet, as (student, teacher) indices from input to output."""
    students, teachers = len(pair.student_shapes.stages), len(pair.teacher_shapes.stages)
    count = min(students, teachers)
    return [(students - count + i, teachers - count + i) for i in range(count)]


def map_shapes(pair: Pair, role: Role) -> list[tuple[int, int, int]]:
    """Return the shapes (C, H, W) of all stages of one model, which ``require_stages`` has checked."""
    return [shape for stage in pair.shapes(role).stages if (shape := map_shape(stage)) is not None]


def met_channels(pair: Pair) -> list[tuple[int, int]]:
    """Return how many channels the stages that meet have, as (student, teacher)."""
    students, teachers = map_shapes(pair, "student"), map_shapes(pair, "teacher")
    return [(students[mine][0], teachers[theirs][0]) for mine, theirs in stage_pairs(pair)]


def require_stages(pair: Pair, count: int = 1) -> None:
    """Refuse a pair of which a model has fewer than ``count`` stages, or tokens that are no map."""
    for role in ROLES:
        stages = pair.shapes(role).stages
        if len(stages) < count:
            has = f"has {len(stages)} stages, and {count} are needed" if stages else "has no stages"
            raise Refusal(f"{role} '{pair.name(role)}' {has}")
        for number, stage in enumerate(stages, start=1):
            if map_shape(stage) is None:
                raise Refusal(
                    f"the {stage[0]} tokens of {role} '{pair.name(role)}' at stage {number} are no square"
                )


def require_pooled(pair: Pair) -> None:
    """Refuse a pair of which a model does not end in a linear layer, whose input is the pooled feature."""
    for role in ROLES:
        if pair.shapes(role).pooled is None:
            raise Refusal(
                f"{role} '{pair.name(role)}' has no pooled feature: its last layer is not linear, or "
                "does not take a row an image"
            )


def require_classified_map(pair: Pair, role: Role) -> None:
    """Refuse a model whose linear layer does not classify the channels of its last stage."""
    shapes = pair.shapes(role)
    last = map_shape(shapes.stages[-1]) if shapes.stages else None
    if last is None or shapes.pooled != (last[0],):
        raise Refusal(
            f"{role} '{pair.name(role)}' does not classify the channels of its last stage by a linear layer"
        )


def require_positions(pair: Pair) -> None:
    """Refuse a pair whose stages all meet in maps of one position, over which nothing can be compared."""
    students, teachers = map_shapes(pair, "student"), map_shapes(pair, "teacher")
    for mine, theirs in stage_pairs(pair):
        (_, *own), (_, *other) = students[mine], teachers[theirs]
        if any(min(sides) > 1 for sides in zip(own, other, strict=True)):
            return
    raise Refusal(
        f"the stages of teacher '{pair.teacher}' and student '{pair.student}' meet in maps of one position, "
        "where there is nothing to compare"
    )


def met_stages(pair: Pair, student: Outputs, teacher: Outputs) -> list[tuple[Tensor, Tensor]]:
    """Return the stages that meet, as maps of the same size, of (student, teacher)."""
    return [same_size(student.stages[mine], teacher.stages[theirs]) for mine, theirs in stage_pairs(pair)]


def same_size(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return two stages as maps (B, C, H, W), the larger average-pooled to the size of the smaller."""
    first, second = as_map(first), as_map(second)
    height = min(first.shape[2], second.shape[2])
    width = min(first.shape[3], second.shape[3])
    if first.shape[2:] != (height, width):
        first = F.adaptive_avg_pool2d(first, (height, width))
    if second.shape[2:] != (height, width):
        second = F.adaptive_avg_pool2d(second, (height, width))
    return first, second


def convolution(inputs: int, outputs: int, size: int = 1) -> nn.Sequential:
    """Return a convolution that keeps height and width, and batch-norm in place of its bias."""
    layer = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs))


def unit(vectors: Tensor, dim: int) -> Tensor:
    """Return vectors divided by their L2 norm along ``dim``; one without a direction is left as it is.

    Dividing by a tiny constant instead would turn the gradient at a zero vector into a huge one.
    """
    norm = torch.linalg.vector_norm(vectors, dim=dim, keepdim=True)
    return vectors / norm.masked_fill(norm <= NO_DIRECTION, 1.0)
