"""A student that ends in its teacher's classifier: the model that ``simkd`` keeps.

The student runs up to its last stage, a projector maps that stage to the channels of the teacher's last one,
and the teacher's linear layer classifies the mean over the positions. ``build`` makes the same architecture
from the names of both models, so that its cost can be measured like that of any other model.

The student's own linear layer is left out. Whatever else a student has behind its last stage, such as the
hidden linear layers of a VGG for large images, stays part of the model and of its cost.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from kdbench.errors import UserError
from kdbench.inputs import Inputs, InputSpec
from kdbench.models.features import feature_shapes, find_taps
from kdbench.models.outputs import first_tensor
from kdbench.models.registry import build_model
from kdbench.models.shapes import Shape, Taps, as_map, map_shape

Stage = tuple[int, ...]


def projector(student: Stage, teacher: Stage, factor: int) -> nn.Sequential:
    """Return 1×1, 3×3 and 1×1 convolutions, each with batch-norm and ReLU, between two last stages.

    Between them the channels are those of the teacher divided by ``factor``, at least one. The last ReLU
    is left out for tokens: the blocks of a transformer end in no activation, so they have either sign.
    """
    inputs, outputs = _as_map_shape(student)[0], _as_map_shape(teacher)[0]
    narrow = max(1, outputs // factor)
    layers: list[nn.Module] = []
    for source, target, size in ((inputs, narrow, 1), (narrow, narrow, 3), (narrow, outputs, 1)):
        layers += [
            nn.Conv2d(source, target, size, padding=size // 2, bias=False),
            nn.BatchNorm2d(target),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers) if len(teacher) == 3 else nn.Sequential(*layers[:-1])


def meeting_size(student: Stage, teacher: Stage) -> tuple[int, int]:
    """Return the height and the width in which two stages are compared: the smaller of both."""
    (_, *mine), (_, *theirs) = _as_map_shape(student), _as_map_shape(teacher)
    height, width = (min(sides) for sides in zip(mine, theirs, strict=True))
    return height, width


def without(model: nn.Module, name: str) -> nn.Module:
    """Return a copy of a model in which the module ``name`` is an identity; all the rest is shared with it.

    Weights that train in one train in the other, and the model itself keeps its module.
    """
    first, _, rest = name.partition(".")
    shell = copy.copy(model)
    child = model.get_submodule(first)
    # A shallow copy would share the dictionary itself, and the model lose its module.
    shell._modules = model._modules | {first: without(child, rest) if rest else nn.Identity()}
    return shell


class ReusedClassifier(nn.Module):
    """The trunk of a student, a projector, and the linear layer of its teacher."""

    def __init__(
        self,
        student: nn.Module,
        projector: nn.Module,
        head: nn.Linear,
        size: tuple[int, int],
        *,
        own_head: str | None,
        stage: str,
    ) -> None:
        """Put the parts together; they are shared, not copied.

        Args:
            student: the student, which stays as it is.
            projector: maps its last stage to the channels that ``head`` classifies.
            head: the teacher's linear layer.
            size: height and width that a larger stage is pooled to before it is projected.
            own_head: name of the student's own linear layer, which is left out; None where it has none.
            stage: name of the module whose output is the last stage.
        """
        super().__init__()
        self.student = student if own_head is None else without(student, own_head)
        self.projector = projector
        self.head = head
        self.size = size
        self.stage = stage

    def forward(self, inputs: Inputs) -> Tensor:
        """Map a batch to logits (B, classes)."""
        feature = as_map(self._last_stage(inputs))
        height, width = feature.shape[2:]
        if (height, width) != self.size:
            feature = functional.adaptive_avg_pool2d(feature, self.size)
        return self.head(functional.adaptive_avg_pool2d(self.projector(feature), 1).flatten(1))

    def _last_stage(self, inputs: Inputs) -> Tensor:
        caught: list[Tensor] = []

        def catch(module: nn.Module, inputs: Any, output: Any) -> None:
            caught.append(first_tensor(output))

        # A hook that stayed would also run while the student trains, since the module is shared.
        handle = self.student.get_submodule(self.stage).register_forward_hook(catch)
        try:
            self.student(inputs)
        finally:
            handle.remove()
        return caught[-1]


def build(
    student: str,
    teacher: str,
    factor: int,
    *,
    inputs: InputSpec,
    num_classes: int,
    student_args: Mapping[str, Any] | None = None,
    teacher_args: Mapping[str, Any] | None = None,
    student_stage: str | None = None,
    teacher_stage: str | None = None,
) -> ReusedClassifier:
    """Build what ``simkd`` keeps of a student and a teacher, with fresh weights.

    Args:
        student: name of the student.
        teacher: name of the teacher.
        factor: by what the projector divides the teacher's channels.
        inputs: what both are shown.
        num_classes: width of the teacher's linear layer.
        student_args: further arguments of the student.
        teacher_args: further arguments of the teacher.
        student_stage: the module that gives the student's last stage, where it is not the one that is found.
        teacher_stage: the same of the teacher.
    """
    model = build_model(student, inputs=inputs, num_classes=num_classes, args=student_args)
    source = build_model(teacher, inputs=inputs, num_classes=num_classes, args=teacher_args)
    taps, their_taps = find_taps(model, inputs), find_taps(source, inputs)
    stage, shape = _last_stage(student, model, taps, student_stage, inputs)
    _, their_shape = _last_stage(teacher, source, their_taps, teacher_stage, inputs)
    head = source.get_submodule(their_taps.pooled) if their_taps.pooled else None
    if not isinstance(head, nn.Linear) or head.in_features != _as_map_shape(their_shape)[0]:
        raise UserError(f"'{teacher}' does not classify the channels of its last stage by a linear layer.")
    return ReusedClassifier(
        model,
        projector(shape, their_shape, factor),
        head,
        meeting_size(shape, their_shape),
        own_head=taps.pooled,
        stage=stage,
    )


def _last_stage(
    name: str, model: nn.Module, taps: Taps, stage: str | None, inputs: InputSpec
) -> tuple[str, Stage]:
    """Return which module gives the last stage of a model, and its shape."""
    stages = (stage,) if stage else taps.stages[-1:]
    if not stages:
        raise UserError(f"'{name}' has no stages.")
    return stages[0], feature_shapes(model, Taps(stages), inputs).stages[0]


def _as_map_shape(stage: Stage) -> Shape:
    shape = map_shape(stage)
    if shape is None:
        raise UserError(f"the {stage[0]} tokens of a last stage are no square.")
    return shape
