"""What a model is made of: parameters, multiply-adds and bytes, counted without timing anything.

The headline ``macs`` follows the published convention: convolutions, matrix products and recurrent layers,
batch 1, evaluation mode, one multiply-add = 1. fvcore traces the model and counts; what it counts beyond
the convention (batch norm, pooling) stays in ``macs_by_operator`` and out of the headline.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from kdbench.efficiency.operators import HEADLINE, WITHOUT_MULTIPLICATION, analyse
from kdbench.errors import UserError


@dataclass(frozen=True)
class Counts:
    """The counts of one model; a count that cannot be had is None, and ``reasons`` says why.

    ``macs_torch`` is torch's own count of the same forward pass, halved (it counts a multiply-add as 2);
    where it is another figure than ``macs``, ``note`` says so.
    ``uncounted`` holds the operators that multiply and that fvcore has no rule for, with the number of
    their calls.
    """

    params: int
    params_trainable: int
    params_nonzero: int
    macs: int | None
    size_bytes: int | None
    macs_torch: int | None = None
    macs_by_operator: dict[str, int] = field(default_factory=dict)
    uncounted: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    note: str | None = None


@dataclass(frozen=True)
class MultiplyAdds:
    """The multiply-adds of one forward pass: of the convention, by operator, and the calls without a rule."""

    headline: int
    by_operator: dict[str, int]
    uncounted: dict[str, int]


def count(model: nn.Module, input_shape: Sequence[int]) -> Counts:
    """Return the counts of a model for one input of shape ``(C, H, W)``; the model is left as it was."""
    reasons: dict[str, str] = {}
    counted: MultiplyAdds | None = None
    macs_torch = size = None
    # Foreign code fails in any way; what can be counted stands without what cannot.
    try:
        counted = count_multiply_adds(model, input_shape)
    except Exception as error:
        reasons["macs"] = f"the forward pass could not be traced: {type(error).__name__}: {_line(error)}"
    try:
        macs_torch = count_multiply_adds_torch(model, input_shape)
    except Exception as error:
        reasons["macs_torch"] = f"the forward pass failed: {type(error).__name__}: {_line(error)}"
    try:
        size = serialized_bytes(model.state_dict())
    except UserError as error:
        reasons["size_bytes"] = str(error)
    note = None
    if counted and macs_torch is not None and macs_torch != counted.headline:
        note = f"torch's own counter gives {macs_torch:,} multiply-adds"
    parameters = list(model.parameters())
    return Counts(
        params=sum(parameter.numel() for parameter in parameters),
        params_trainable=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        params_nonzero=count_nonzero(model),
        macs=counted.headline if counted else None,
        size_bytes=size,
        macs_torch=macs_torch,
        macs_by_operator=counted.by_operator if counted else {},
        uncounted=counted.uncounted if counted else {},
        reasons=reasons,
        note=note,
    )


def count_nonzero(model: nn.Module) -> int:
    """Return the number of parameters that are not zero; shared parameters count once."""
    return sum(int(torch.count_nonzero(parameter.detach())) for parameter in model.parameters())


def count_multiply_adds(model: nn.Module, input_shape: Sequence[int]) -> MultiplyAdds:
    """Count one forward pass of batch 1 with fvcore and the handlers of ``operators``.

    Raises whatever the model raises when it is traced.
    """
    with _untouched(model), _plain_operators():
        by_operator, missed = analyse(model, _example(model, input_shape))
    return MultiplyAdds(
        headline=sum(value for name, value in by_operator.items() if name in HEADLINE),
        by_operator=by_operator,
        uncounted={
            name: times for name, times in sorted(missed.items()) if name not in WITHOUT_MULTIPLICATION
        },
    )


def count_multiply_adds_torch(model: nn.Module, input_shape: Sequence[int]) -> int:
    """Count the same pass with torch.utils.flop_counter, halved: the cross-check."""
    with _untouched(model), _plain_operators(), FlopCounterMode(display=False) as counter:
        model(_example(model, input_shape))
    return counter.get_total_flops() // 2


def serialized_bytes(state: dict[str, Tensor]) -> int:
    """Return the length of a state's safetensors file; tensors that share memory are written once.

    Raises UserError for an entry that is not a tensor, which the format cannot hold.
    """
    unique: dict[tuple[object, ...], tuple[str, Tensor]] = {}
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor):
            raise UserError(
                f"state entry '{name}' is {type(tensor).__name__}, which safetensors cannot hold."
            )
        shared = (tensor.device, tensor.dtype, tensor.data_ptr(), tuple(tensor.shape), tensor.stride())
        unique.setdefault(shared if tensor.numel() else (name,), (name, tensor))
    copies = {
        name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in unique.values()
    }
    return len(safetensors.torch.save(copies))


@contextmanager
def _untouched(model: nn.Module) -> Iterator[None]:
    """Run in evaluation mode without gradients, then give back every training flag and every buffer."""
    training = {module: module.training for module in model.modules()}
    buffers = [
        (module, name, buffer, buffer.detach().clone())
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, name, buffer, value in buffers:
            buffer.data.copy_(value)
            setattr(module, name, buffer)
        for module, flag in training.items():
            module.training = flag


@contextmanager
def _plain_operators() -> Iterator[None]:
    """Keep torch from fusing attention and LSTM layers into operators that neither counter can look into."""
    mha, mkldnn = torch.backends.mha, cast(Any, torch.backends.mkldnn)
    fused, enabled = mha.get_fastpath_enabled(), mkldnn.enabled
    mha.set_fastpath_enabled(False)
    mkldnn.enabled = False
    try:
        yield
    finally:
        mha.set_fastpath_enabled(fused)
        mkldnn.enabled = enabled


def _example(model: nn.Module, input_shape: Sequence[int]) -> Tensor:
    parameter = next(model.parameters(), None)
    return torch.zeros(1, *input_shape, device=parameter.device if parameter is not None else "cpu")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or "no message"
