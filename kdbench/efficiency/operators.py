"""Closed forms for the multiply-adds of operators, in the shape in which fvcore takes them.

A handler gets the inputs and outputs of one traced call (``torch._C.Value``) and returns its
multiply-adds. Those of fvcore stand where they are exact; here are the operators that it does not know
(recurrent layers, fused attention) and those where its rule is not exact (matrix products that broadcast,
einsum, whose count numpy rounds to four digits). From the same trace come the elements that each of these
operators reads and writes.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from torch import Tensor, nn

with warnings.catch_warnings():
    # fvcore compiles a loss with torch.jit.script on import, which newer torch announces as deprecated.
    warnings.simplefilter("ignore", FutureWarning)
    from fvcore.nn import FlopCountAnalysis
    from fvcore.nn.jit_handles import conv_flop_jit, einsum_flop_jit, get_shape, linear_flop_jit

Handler = Callable[[Sequence[Any], Sequence[Any]], Any]

# Keys that stand beside the names of operators in what a handler returns; no operator is called so.
_OUTPUT, _MOVED = "output elements", "moved elements"


@dataclass(frozen=True)
class Traced:
    """What one traced forward pass does.

    ``macs`` are multiply-adds by operator and ``unruled`` the calls of operators without a rule. Of the
    operators of the convention, ``outputs`` are the elements of their first output, and ``moved`` the
    elements of all their operands and outputs.
    """

    macs: dict[str, int]
    unruled: dict[str, int]
    outputs: int
    moved: int


def analyse(model: nn.Module, example: Tensor) -> Traced:
    """Trace one forward pass and count what it does.

    Raises whatever the model raises, and what fvcore raises on a call that it cannot read.
    """
    handlers = {name: _with_elements(name, rule) for name, rule in HANDLERS.items()}
    analysis = FlopCountAnalysis(model, example).set_op_handle(**handlers)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    counted = {name: int(value) for name, value in analysis.by_operator().items()}
    outputs, moved = counted.pop(_OUTPUT, 0), counted.pop(_MOVED, 0)
    return Traced(counted, dict(analysis.unsupported_ops()), outputs, moved)


def _with_elements(name: str, rule: Handler) -> Handler:
    """Return a handler that also counts the elements of a call's operands and outputs."""

    def counted(inputs: Sequence[Any], outputs: Sequence[Any]) -> Counter[str]:
        moved = sum(prod(shape) for shape in _tensors([*inputs, *outputs]))
        return Counter({SHOWN[name]: rule(inputs, outputs), _OUTPUT: prod(_shape(outputs[0])), _MOVED: moved})

    return counted


def _tensors(values: Sequence[Any]) -> Iterator[list[int]]:
    """Yield the shapes of the tensors among the values of a call, also of those in lists."""
    for value in values:
        if value.node().kind() == "prim::ListConstruct":
            yield from _tensors(list(value.node().inputs()))
        elif (shape := get_shape(value)) is not None:
            yield shape


def convolution(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    """Return fvcore's count: positions of the output (of the input, where transposed) × weights / groups."""
    return sum(conv_flop_jit(inputs, outputs).values())


def contraction(operand: int) -> Handler:
    """Return the rule of a matrix product: output elements × length of the contracted dimension.

    ``operand`` is the position of the first factor; its last dimension is contracted.
    """

    def multiply_adds(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
        return prod(_shape(outputs[0])) * _shape(inputs[operand])[-1]

    return multiply_adds


def recurrent(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    """Return steps × batch × Σ elements of the weight matrices, over layers and directions.

    Every weight matrix is applied once at every step: for a GRU of input I and hidden size H that is
    T·(3H·I + 3H·H) for each example, layer and direction; for an LSTM 4 in place of 3, for a plain
    recurrent layer 1. Packed sequences count their true lengths.
    """
    lists = [value for value in inputs if value.node().kind() == "prim::ListConstruct"]
    # The weights are the last list: an LSTM has one more, its two states, before it.
    weights = [_shape(value) for value in lists[-1].node().inputs()]
    positions = prod(_shape(inputs[0])[:-1])
    return positions * sum(prod(shape) for shape in weights if len(shape) == 2)


def attention(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    """Return heads × L × S × (E + E_v) for each example: the product with the keys, then with the values.

    Queries (..., L, E), keys (..., S, E), values (..., S, E_v); a causal mask does not lower the count.
    """
    query, key, value = (_shape(operand) for operand in inputs[:3])
    return prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def einsum(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    """Return the product of the lengths of all indices for two operands; fvcore's estimate for more."""
    equation = inputs[0].toIValue().replace(" ", "")
    shapes = [_shape(operand) for operand in inputs[1].node().inputs()]
    terms = equation.partition("->")[0].split(",")
    if len(terms) != 2 or "." in equation:
        return int(einsum_flop_jit(inputs, outputs))
    lengths: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        for index, length in zip(term, shape, strict=True):
            # An index of length 1 broadcasts against the other operand's.
            lengths[index] = max(length, lengths.get(index, 1))
    return prod(lengths.values())


def _shape(value: Any) -> list[int]:
    shape = get_shape(value)
    if shape is None:
        raise ValueError(f"the trace holds no shape for an operand of {value.node().kind()}")
    return shape


HANDLERS: dict[str, Handler] = {
    "aten::_convolution": convolution,
    "aten::linear": linear_flop_jit,
    **dict.fromkeys(("aten::matmul", "aten::mm", "aten::bmm", "aten::mv", "aten::dot"), contraction(0)),
    **dict.fromkeys(("aten::addmm", "aten::baddbmm", "aten::addmv"), contraction(1)),
    **dict.fromkeys(("aten::gru", "aten::lstm", "aten::rnn_tanh", "aten::rnn_relu"), recurrent),
    "aten::scaled_dot_product_attention": attention,
    "aten::einsum": einsum,
}

# The operators of the published convention, by the names under which they are summed.
SHOWN = {name: name.removeprefix("aten::") for name in HANDLERS} | {"aten::_convolution": "conv"}
HEADLINE = frozenset(SHOWN.values())

# What a forward pass may call without one multiplication: comparisons, sums, copies, views.
WITHOUT_MULTIPLICATION = frozenset(
    f"aten::{name}"
    for name in (
        "abs",
        "add",
        "add_",
        "adaptive_max_pool1d",
        "adaptive_max_pool2d",
        "alias",
        "all",
        "amax",
        "amin",
        "any",
        "argmax",
        "broadcast_tensors",
        "channel_shuffle",
        "clone",
        "cumsum",
        "dropout_",
        "embedding",
        "empty_like",
        "expand_as",
        "feature_dropout",
        "fill_",
        "flip",
        "hardtanh",
        "hardtanh_",
        "index_select",
        "le",
        "lift_fresh",
        "lt",
        "masked_fill_",
        "max_pool1d",
        "max_pool2d",
        "maximum",
        "min",
        "minimum",
        "movedim",
        "native_channel_shuffle",
        "ne",
        "neg",
        "numel",
        "ones_like",
        "pad",
        "pixel_shuffle",
        "relu6",
        "relu6_",
        "repeat",
        "reshape_as",
        "rsub",
        "scalar_tensor",
        "sub",
        "sub_",
        "sum",
        "swapaxes",
        "tile",
        "unflatten",
        "unsafe_chunk",
        "unsafe_split",
        "upsample_nearest1d",
        "where",
        "zero_",
    )
)
