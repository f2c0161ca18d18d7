"""The calls of one traced forward pass, as values: arguments, shapes, and what a call is made of.

A trace names the operators that a model calls. Most of torch's are made of others: those are run again on
tensors without content, and what the dispatcher then sees is counted in their place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from kdbench.efficiency.operators import is_plain
from kdbench.efficiency.rules import rule_of

# What a trace writes between a number and its use, each of one input.
_PASSED_ON = ("aten::Int", "aten::ScalarImplicit", "aten::Float", "prim::NumToTensor")


class Unreadable(Exception):
    """A trace does not hold the value of an argument."""


@dataclass(frozen=True)
class Call:
    """One node of a trace. A tensor that it takes or gives stands there by its shape and type only."""

    node: Any

    @property
    def name(self) -> str:
        """The operator, ``aten::mm``; for a Python function also the name of that."""
        kind: str = self.node.kind()
        return f"{kind}.{self.node.pyname()}" if kind == "prim::PythonOp" else kind

    @property
    def arguments(self) -> list[Any]:
        """The arguments in the order of the schema; one that the trace does not hold is an Unreadable."""
        return [_value_or_why(value) for value in self.node.inputs()]

    @property
    def output(self) -> list[int]:
        """The shape of the first output; [] where it is no tensor."""
        tensors = list(_tensors(self._outputs()[:1]))
        return list(tensors[0].shape) if tensors else []

    @property
    def output_elements(self) -> int:
        """The elements of the first output."""
        return prod(self.output)

    @property
    def elements(self) -> int:
        """The elements of all operands and outputs, also of those in lists."""
        return sum(tensor.numel() for tensor in _tensors([*self.arguments, *self._outputs()]))

    def _outputs(self) -> list[Any]:
        return [_value_or_why(value) for value in self.node.outputs()]

    def is_opaque(self) -> bool:
        """Whether the node holds or calls code that the trace does not list: a branch, a loop, a function."""
        kind = self.node.kind()
        return kind.startswith(("prim::PythonOp", "prim::Call", "prim::fork")) or any(self.node.blocks())

    def multiply_adds(self) -> int | None:
        """Return the multiply-adds of its matrix products; None where it may have some and cannot be read."""
        rule = rule_of(self.name)
        try:
            known = rule(self.arguments, self.output) if rule else None
            return self._taken_apart() if known is None else known
        except Exception:
            # Whatever keeps an operator from being counted, the count then is a lower bound and says so.
            return None

    def _taken_apart(self) -> int | None:
        schema = torch._C.parse_schema(self.node.schema())
        namespace, _, name = self.name.partition("::")
        operator = getattr(getattr(getattr(torch.ops, namespace), name), schema.overload_name or "default")
        pairs = list(zip(schema.arguments, (_value(value) for value in self.node.inputs()), strict=True))
        with torch.no_grad(), _Parts() as parts:
            operator(
                *(value for argument, value in pairs if not argument.kwarg_only),
                **{argument.name: value for argument, value in pairs if argument.kwarg_only},
            )
        return None if parts.unknown else parts.multiply_adds


class _Parts(TorchDispatchMode):
    """Counts the operators that reach the dispatcher; ``unknown`` are those that nothing is known of."""

    def __init__(self) -> None:
        super().__init__()
        self.multiply_adds = 0
        self.unknown: set[str] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        output = function(*args, **given)
        schema = function._schema
        if rule := rule_of(schema.name):
            values = [
                args[place] if place < len(args) else given.get(argument.name, argument.default_value)
                for place, argument in enumerate(schema.arguments)
            ]
            first = next(iter(_tensors([output])), None)
            known = rule(values, () if first is None else first.shape)
            self.multiply_adds += known or 0
            if known is None:
                self.unknown.add(schema.name)
        elif not is_plain(schema.name):
            self.unknown.add(schema.name)
        return output


def _tensors(values: Sequence[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _value_or_why(value: Any) -> Any:
    try:
        return _value(value)
    except Unreadable as error:
        return error


def _value(value: Any) -> Any:
    """Return the value of ``torch._C.Value``; a tensor as one on the device ``meta``."""
    node = value.node()
    kind = node.kind()
    if kind in ("prim::ListConstruct", "prim::TupleConstruct"):
        return [_value(inner) for inner in node.inputs()]
    if kind in _PASSED_ON:
        return _value(next(node.inputs()))
    if value.isCompleteTensor():
        return torch.empty(value.type().sizes(), dtype=value.type().dtype(), device="meta")
    if kind == "prim::Constant":
        return value.toIValue()
    if kind == "aten::size":
        tensor, *dimension = (_value(inner) for inner in node.inputs())
        return tensor.shape[dimension[0]] if dimension else list(tensor.shape)
    raise Unreadable(f"the trace does not hold what {kind} gives")
