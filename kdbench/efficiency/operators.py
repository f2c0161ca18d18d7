"""Closed forms for the multiply-adds of operators, in the shape in which fvcore takes them.

A handler gets the inputs and outputs of one traced call (``torch._C.Value``) and returns its
multiply-adds. Those of fvcore stand where they are exact; here are the operators that it does not know
(recurrent layers, fused attention) and those where its rule is not exact (matrix products that broadcast,
einsum, whose count numpy rounds to four digits).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from torch import Tensor, nn

with warnings.catch_warnings():
    # fvcore compiles a loss with torch.jit.script on import, which newer torch announces as deprecated.
    warnings.simplefilter("ignore", FutureWarning)
    from fvcore.nn import FlopCountAnalysis
    from fvcore.nn.jit_handles import einsum_flop_jit, get_shape

Handler = Callable[[Sequence[Any], Sequence[Any]], int]


def analyse(model: nn.Module, example: Tensor) -> tuple[dict[str, int], dict[str, int]]:
    """Trace one forward pass; return its multiply-adds by operator, and the calls that have no rule.

    Raises whatever the model raises, and what fvcore raises on a call that it cannot read.
    """
    analysis = FlopCountAnalysis(model, example).set_op_handle(**HANDLERS)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    counted = {name: int(value) for name, value in analysis.by_operator().items()}
    return counted, dict(analysis.unsupported_ops())


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
    **dict.fromkeys(("aten::matmul", "aten::mm", "aten::bmm", "aten::mv", "aten::dot"), contraction(0)),
    **dict.fromkeys(("aten::addmm", "aten::baddbmm", "aten::addmv"), contraction(1)),
    **dict.fromkeys(("aten::gru", "aten::lstm", "aten::rnn_tanh", "aten::rnn_relu"), recurrent),
    "aten::scaled_dot_product_attention": attention,
    "aten::einsum": einsum,
}

# The operators of the published convention, by the names under which fvcore sums them.
HEADLINE = frozenset({"conv", "linear", *(name.removeprefix("aten::") for name in HANDLERS)})

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
