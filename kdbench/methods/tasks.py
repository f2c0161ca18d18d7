"""A method for several tasks: one distiller a task, each on its own logits of one model.

The loss is L = L₀ + Σ w_t L_t, with L₀ that of the dataset's own task and w_t the weight that the suite gives
task t, as in multi-task learning with fixed weights (Caruana 1997). Only methods that take nothing but logits
can be divided so: the features belong to all tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kdbench.deferred import nn
from kdbench.heads import PRIMARY, name_in, slices
from kdbench.methods.base import Batch, Distiller, Pair, Parameters, Refusal
from kdbench.models.shapes import Outputs

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Task:
    """One task as a distiller meets it: labels (N,) of the training split on the device, and its weight."""

    classes: int
    labels: Tensor
    weight: float = 1.0


def pair_in(pair: Pair, classes: int) -> Pair:
    """Return a pair as it is in a task with so many classes."""
    return replace(
        pair,
        teacher_shapes=replace(pair.teacher_shapes, logits=(classes,)),
        student_shapes=replace(pair.student_shapes, logits=(classes,)),
        num_classes=classes,
    )


def check_tasks(distiller: type[Distiller], hyper: Parameters, pair: Pair, tasks: Mapping[str, int]) -> None:
    """Raise Refusal where a method cannot work with the further tasks, given their numbers of classes."""
    if tasks and (distiller.has_own_network() or distiller.diagnose is not Distiller.diagnose):
        raise Refusal("it needs a network or a diagnosis of its own, and the tasks share one model")
    if tasks and not distiller.reads_logits_only(hyper, pair.student):
        raise Refusal("it takes more than logits, and features are shared by the tasks")
    for task, classes in tasks.items():
        try:
            distiller.check(hyper, pair_in(pair, classes))
        except Refusal as reason:
            raise Refusal(f"in task {task}: {reason}") from None


class PerTask(Distiller):
    """The distillers of all tasks as one; its terms of a further task begin with the task's name."""

    def __init__(self, make: Callable[[Pair], Distiller], pair: Pair, tasks: Mapping[str, Task]) -> None:
        """Make one distiller a task.

        Args:
            make: makes the distiller of a pair.
            pair: the pair in the dataset's own task.
            tasks: every task in the order of the logits, the dataset's own first.
        """
        self.parts = {task: make(pair_in(pair, found.classes)) for task, found in tasks.items()}
        own = self.parts[PRIMARY]
        super().__init__(own.hyper, pair)
        self.tasks = tasks
        self.needs, self.uses_teacher = own.needs, own.uses_teacher
        self._slices = dict(slices({task: found.classes for task, found in tasks.items()}))

    @property
    def widths(self) -> list[int]:
        """How many of the logits are each task's."""
        return [task.classes for task in self.tasks.values()]

    def losses(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        """Return the terms of every task, each with its weight."""
        terms: dict[str, Tensor] = {}
        for name, task in self.tasks.items():
            part = self._slices[name]

            def run(network: nn.Module, part: slice = part) -> Tensor:
                return batch.run(network)[:, part]

            found = self.parts[name].losses(
                Outputs(student.logits[:, part]),
                None if teacher is None else Outputs(teacher.logits[:, part]),
                replace(batch, target=task.labels[batch.index], run=run),
            )
            terms |= {name_in(name, term): task.weight * value for term, value in found.items()}
        return terms

    def adapters(self) -> nn.ModuleDict:
        """Return the networks of every task's distiller."""
        # The prefix keeps a task from being called like an attribute of modules, such as 'half'.
        return nn.ModuleDict({f"task_{name}": part.adapters() for name, part in self.parts.items()})
