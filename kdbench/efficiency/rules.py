"""Closed forms for the multiply-adds of operators that multiply matrices: one multiply-add counts 1.

A rule gets the arguments of one call in the order of the operator's schema, tensors with their shapes, and
the shape of its first output. None says that the call is to be taken apart into what it is made of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from torch import Tensor

Rule = Callable[[Sequence[Any], Sequence[int]], int | None]


def contraction(operand: int) -> Rule:
    """Return the rule of a matrix product: output elements × length of the contracted dimension.

    ``operand`` is the position of the first factor; its last dimension is contracted.
    """

    def multiply_adds(arguments: Sequence[Any], output: Sequence[int]) -> int:
        return prod(output) * int(arguments[operand].shape[-1])

    return multiply_adds


def outer(arguments: Sequence[Any], output: Sequence[int]) -> int:
    """Return the elements of the output: an outer product contracts nothing."""
    return prod(output)


def batched_sum(arguments: Sequence[Any], output: Sequence[int]) -> int:
    """Return batch × rows × inner × columns of ``addbmm``, which sums the products of a batch."""
    return prod(arguments[1].shape) * int(arguments[2].shape[-1])


def convolution(arguments: Sequence[Any], output: Sequence[int]) -> int:
    """Return output elements × weights of one; where transposed, input elements × weights of one."""
    images, weight, transposed = arguments[0], arguments[1], arguments[6]
    return prod(images.shape if transposed else output) * prod(weight.shape[1:])


def plain_convolution(arguments: Sequence[Any], output: Sequence[int]) -> int:
    """Return output elements × weights of one, for operators that are never transposed."""
    return prod(output) * prod(arguments[1].shape[1:])


def transposed_convolution(arguments: Sequence[Any], output: Sequence[int]) -> int:
    """Return input elements × weights of one, for operators that are always transposed."""
    return prod(arguments[0].shape) * prod(arguments[1].shape[1:])


def time_convolution(arguments: Sequence[Any], output: Sequence[int]) -> int:
    """Return output elements × kernel length × input channels of ``conv_tbc``."""
    return prod(output) * prod(arguments[1].shape[:2])


def recurrent(arguments: Sequence[Any], output: Sequence[int]) -> int:
    """Return steps × batch × Σ elements of the weight matrices, over layers and directions.

    Every weight matrix is applied once at every step: for a GRU of input I and hidden size H that is
    T·(3H·I + 3H·H) for each example, layer and direction; for an LSTM 4 in place of 3, for a plain
    recurrent layer 1. Packed sequences count their true lengths.
    """
    # The weights are the last list: an LSTM has one more, its two states, before it.
    weights = [value for value in arguments if isinstance(value, list)][-1]
    positions = prod(arguments[0].shape[:-1])
    return positions * sum(prod(weight.shape) for weight in weights if weight.dim() == 2)


def attention(arguments: Sequence[Any], output: Sequence[int]) -> int:
    """Return heads × L × S × (E + E_v) for each example: the product with the keys, then with the values.

    Queries (..., L, E), keys (..., S, E), values (..., S, E_v); a causal mask does not lower the count.
    """
    query, key, value = (operand.shape for operand in arguments[:3])
    return prod(query[:-1]) * int(key[-2]) * int(query[-1] + value[-1])


def multi_head(arguments: Sequence[Any], output: Sequence[int]) -> int:
    """Return B·(2·L·D² + 2·S·D² + 2·L·S·D): projections in and out, and both products of attention.

    Queries (B, L, D), keys and values (B, S, D); the heads share D among themselves.
    """
    batch, length, width = arguments[0].shape
    source = int(arguments[1].shape[1])
    return batch * 2 * width * (length * width + source * width + length * source)


def encoder_layer(arguments: Sequence[Any], output: Sequence[int]) -> int:
    """Return the attention of a layer of queries (B, L, D) on themselves, and 2·B·L·D·F of its two layers."""
    tokens, hidden = arguments[0], arguments[_FEED_FORWARD]
    return multi_head((tokens, tokens), output) + 2 * prod(tokens.shape) * int(hidden.shape[0])


# Where the fused encoder layer takes the weight (F, D) of its first linear layer.
_FEED_FORWARD = 14


def einsum(arguments: Sequence[Any], output: Sequence[int]) -> int | None:
    """Return the product of the lengths of all indices, for two operands without an ellipsis."""
    terms = arguments[0].replace(" ", "").partition("->")[0].split(",")
    if len(terms) != 2 or "." in arguments[0]:
        return None
    lengths: dict[str, int] = {}
    for term, operand in zip(terms, arguments[1], strict=True):
        for index, length in zip(term, operand.shape, strict=True):
            # An index of length 1 broadcasts against the other operand's.
            lengths[index] = max(int(length), lengths.get(index, 1))
    return prod(lengths.values())


def bilinear(arguments: Sequence[Any], output: Sequence[int]) -> int:
    """Return output elements × (I₁ + 1)·I₂: the product with the first input, then with the second."""
    return prod(output) * (int(arguments[0].shape[-1]) + 1) * int(arguments[1].shape[-1])


def grouped(arguments: Sequence[Any], output: Sequence[int]) -> int:
    """Return rows × inner × columns over all groups, whichever dimension is split into groups."""
    first, second = arguments[:2]
    ragged_inner = first.dim() == second.dim() == 2
    return prod(first.shape if ragged_inner else output) * int((second if ragged_inner else first).shape[-1])


def listed(arguments: Sequence[Any], output: Sequence[int]) -> int:
    """Return the sum over pairs of matrices, which come in two lists."""
    pairs: list[tuple[Tensor, Tensor]] = list(zip(*arguments[:2], strict=True))
    return sum(prod(first.shape) * int(second.shape[-1]) for first, second in pairs)


def _named(namespace: str, rule: Rule, *names: str) -> dict[str, Rule]:
    return {f"{namespace}::{name}": rule for name in names}


_CONVOLUTIONS = (
    "_conv_depthwise2d",
    "_slow_conv2d_forward",
    "conv_depthwise3d",
    "cudnn_convolution",
    "cudnn_convolution_add_relu",
    "cudnn_convolution_relu",
    "miopen_convolution",
    "miopen_convolution_add_relu",
    "miopen_convolution_relu",
    "miopen_depthwise_convolution",
    "mkldnn_convolution",
    "slow_conv3d_forward",
    "slow_conv_dilated2d",
    "slow_conv_dilated3d",
)
_TRANSPOSED = (
    "cudnn_convolution_transpose",
    "miopen_convolution_transpose",
    "slow_conv_transpose2d",
    "slow_conv_transpose3d",
)
_ATTENTIONS = (
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_fused_attention_overrideable",
    "scaled_dot_product_attention",
)
_PRODUCTS = (
    "_int_mm",
    "_scaled_mm",
    "_weight_int4pack_mm",
    "_weight_int4pack_mm_for_cpu",
    "_weight_int8pack_mm",
    "affine_grid_generator",
    "bmm",
    "dot",
    "linear",
    "linalg_vecdot",
    "matmul",
    "mkldnn_linear",
    "mm",
    "mv",
    "vdot",
)

RULES: dict[str, Rule] = {
    **_named("aten", convolution, "_convolution", "convolution"),
    **_named("aten", plain_convolution, *_CONVOLUTIONS),
    **_named("aten", transposed_convolution, *_TRANSPOSED),
    **_named("aten", time_convolution, "conv_tbc"),
    **_named("torchvision", plain_convolution, "deform_conv2d"),
    **_named("aten", contraction(0), *_PRODUCTS),
    **_named("aten", contraction(1), "addmm", "baddbmm", "addmv", "_addmm_activation"),
    **_named("aten", batched_sum, "addbmm"),
    **_named("aten", outer, "addr", "ger", "kron", "outer"),
    # One multiply-add for each coordinate of each pair of points, whatever the norm.
    **_named("aten", contraction(0), "cdist", "_cdist_forward", "_euclidean_dist", "pdist", "_pdist_forward"),
    **_named("aten", grouped, "_grouped_mm", "_scaled_grouped_mm"),
    **_named("aten", listed, "_foreach_mm"),
    **_named("aten", recurrent, "gru", "lstm", "rnn_tanh", "rnn_relu"),
    **_named("aten", attention, *_ATTENTIONS),
    **_named("aten", multi_head, "_native_multi_head_attention"),
    **_named("aten", encoder_layer, "_transformer_encoder_layer_fwd"),
    **_named("aten", einsum, "einsum"),
    **_named("aten", bilinear, "bilinear"),
}


def rule_of(name: str) -> Rule | None:
    """Return the rule of an operator (``aten::mm``), which its form in place (``aten::addmm_``) shares."""
    return RULES.get(name) or RULES.get(name.removesuffix("_"))
