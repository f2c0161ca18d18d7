"""A method for several heads: one distiller a head, each on its own logits of one model.

The loss is L = L₀ + Σ w_t L_t, with L₀ that of the dataset's own head and w_t the weight that the suite gives
head t, as in multi-task learning with fixed weights (Caruana 1997). Only methods that take nothing but logits
can be divided so: the features belong to all heads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from kdbench.deferred import Tensor, nn
from kdbench.heads import PRIMARY, name_in, slices
from kdbench.methods.base import Batch, Distiller, Pair, Parameters, Refusal
from kdbench.methods.conditions import check_pair
from kdbench.models.shapes import Outputs


@dataclass(frozen=True)
class Head:
    """One head as a distiller meets it: labels (N,) of the training split on the device, and its weight."""

    classes: int
    labels: Tensor
    weight: float = 1.0


def pair_in(pair: Pair, classes: int) -> Pair:
    """Return a pair as it is in a head with so many classes."""
    return replace(
        pair,
        teacher_shapes=replace(pair.teacher_shapes, logits=(classes,)),
        student_shapes=replace(pair.student_shapes, logits=(classes,)),
        num_classes=classes,
    )


def check_heads(distiller: type[Distiller], hyper: Parameters, pair: Pair, heads: Mapping[str, int]) -> None:
    """Raise Refusal where a method cannot work with the further heads, given their numbers of classes."""
    if heads and (distiller.has_own_network() or distiller.diagnose is not Distiller.diagnose):
        raise Refusal("it needs a network or a diagnosis of its own, and the heads share one model")
    if heads and not distiller.reads_logits_only(hyper, pair.student):
        raise Refusal("it takes more than logits, and features are shared by the heads")
    for head, classes in heads.items():
        try:
            check_pair(distiller, hyper, pair_in(pair, classes))
        except Refusal as reason:
            raise Refusal(f"in head {head}: {reason}") from None


class PerHead(Distiller):
    """The distillers of all heads as one; its terms of a further head begin with the head's name."""

    def __init__(self, make: Callable[[Pair], Distiller], pair: Pair, heads: Mapping[str, Head]) -> None:
        """Make one distiller a head.

        Args:
            make: makes the distiller of a pair.
            pair: the pair in the dataset's own head.
            heads: every head in the order of the logits, the dataset's own first.
        """
        self.parts = {name: make(pair_in(pair, head.classes)) for name, head in heads.items()}
        own = self.parts[PRIMARY]
        super().__init__(own.hyper, pair)
        self.heads = heads
        self.needs, self.uses_teacher = own.needs, own.uses_teacher
        self._slices = dict(slices({name: head.classes for name, head in heads.items()}))

    @property
    def widths(self) -> list[int]:
        """How many of the logits are each head's."""
        return [head.classes for head in self.heads.values()]

    def losses(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        """Return the terms of every head, each with its weight."""
        terms: dict[str, Tensor] = {}
        for name, head in self.heads.items():
            part = self._slices[name]

            def run(network: nn.Module, part: slice = part) -> Tensor:
                return batch.run(network)[:, part]

            of_head = self.parts[name].losses(
                Outputs(student.logits[:, part]),
                None if teacher is None else Outputs(teacher.logits[:, part]),
                replace(batch, target=head.labels[batch.index], run=run),
            )
            terms |= {name_in(name, term): head.weight * value for term, value in of_head.items()}
        return terms

    def adapters(self) -> nn.ModuleDict:
        """Return the networks of every head's distiller."""
        # The prefix keeps a head from being called like an attribute of modules, such as 'half'.
        return nn.ModuleDict({f"head_{name}": part.adapters() for name, part in self.parts.items()})
