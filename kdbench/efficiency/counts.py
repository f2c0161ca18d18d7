"""What a model is made of: parameters, multiply-adds and bytes, counted without timing anything.

The headline ``macs`` follows the published convention: convolutions, matrix products and recurrent layers,
batch 1, evaluation mode, one multiply-add = 1. fvcore traces the model; what it counts beyond the convention
(batch norm, pooling) stays in ``macs_by_operator`` and out of the headline, and makes up ``macs_fvcore`` with
it. Where an operator that may multiply cannot be counted, the counts are lower bounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from kdbench.efficiency.crosscheck import describe_difference
from kdbench.efficiency.traces import analyse
from kdbench.errors import UserError, in_words
from kdbench.inputs import InputSpec
from kdbench.shared_state import kept_settings

FP32_BYTES = 4
OF_THE_TRACE = ("macs", "macs_fvcore", "activations", "arithmetic_intensity")


@dataclass(frozen=True)
class Counts:
    """The counts of one model; a count that cannot be had is None, and ``reasons`` says why.

    Attributes:
        params: elements of all parameters; shared ones count once.
        params_trainable: of those that require a gradient.
        params_nonzero: of those elements, how many are not zero.
        macs: multiply-adds by the published convention.
        size_bytes: length of the safetensors file of the state.
        macs_fvcore: ``macs`` and the operators beyond the convention that fvcore counts.
        macs_torch: torch's own count of the same pass, halved (it counts a multiply-add as 2).
        activations: output elements of the operators in ``macs``, as in Radosavovic et al. (2020); attention
            that is one operator counts its output and not its scores.
        traffic_bytes: what those operators move in fp32 if each reads every operand and writes every output
            once, and nothing stays in the cache between two of them.
        arithmetic_intensity: 2·``macs`` / ``traffic_bytes``, in FLOP a byte: the operational intensity of the
            roofline model (Williams et al., 2009) under that traffic.
        macs_by_operator: what ``macs_fvcore`` sums.
        uncounted: calls of operators that may multiply matrices and could not be counted, by operator. Where
            there is one, ``macs``, ``macs_fvcore``, ``activations`` and ``traffic_bytes`` are lower bounds.
        reasons: why a count is None, by its name.
        note: by which operators ``macs`` and ``macs_torch`` differ; None where they are equal.
    """

    params: int
    params_trainable: int
    params_nonzero: int
    macs: int | None
    size_bytes: int | None
    macs_fvcore: int | None = None
    macs_torch: int | None = None
    activations: int | None = None
    traffic_bytes: int | None = None
    arithmetic_intensity: float | None = None
    macs_by_operator: dict[str, int] = field(default_factory=dict)
    uncounted: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    note: str | None = None


@dataclass(frozen=True)
class MultiplyAdds:
    """One forward pass: multiply-adds by operator, of the convention and beyond it, and what else it does.

    ``uncounted``, ``activations`` and ``traffic_bytes`` are those of ``Counts``.
    """

    by_convention: dict[str, int]
    beyond: dict[str, int]
    uncounted: dict[str, int]
    activations: int
    traffic_bytes: int

    @property
    def headline(self) -> int:
        """The multiply-adds of the convention; a lower bound where anything is ``uncounted``."""
        return sum(self.by_convention.values())

    @property
    def by_operator(self) -> dict[str, int]:
        """All that was counted, by operator."""
        return self.by_convention | self.beyond


def count(model: nn.Module, inputs: InputSpec) -> Counts:
    """Return the counts of a model for one example; the model is left as it was."""
    reasons: dict[str, str] = {}
    counted: MultiplyAdds | None = None
    by_torch: dict[str, int] | None = None
    size = intensity = None
    # Foreign code fails in any way; what can be counted stands without what cannot.
    try:
        counted = count_multiply_adds(model, inputs)
    except Exception as error:
        text = f"the forward pass could not be traced: {type(error).__name__}: {_line(error)}"
        reasons |= dict.fromkeys(OF_THE_TRACE, text)
    try:
        by_torch = count_by_operator_torch(model, inputs)
    except Exception as error:
        reasons["macs_torch"] = f"the forward pass failed: {type(error).__name__}: {_line(error)}"
    try:
        size = serialized_bytes(model.state_dict())
    except UserError as error:
        reasons["size_bytes"] = str(error)
    if counted and counted.uncounted:
        reasons["arithmetic_intensity"] = f"not all is counted: {', '.join(counted.uncounted)}"
    elif counted and counted.traffic_bytes:
        intensity = 2 * counted.headline / counted.traffic_bytes
    elif counted:
        reasons["arithmetic_intensity"] = "the model has no convolution and no matrix product"
    parameters = list(model.parameters())
    return Counts(
        params=sum(parameter.numel() for parameter in parameters),
        params_trainable=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        params_nonzero=count_nonzero(model),
        macs=counted.headline if counted else None,
        size_bytes=size,
        macs_fvcore=sum(counted.by_operator.values()) if counted else None,
        macs_torch=None if by_torch is None else sum(by_torch.values()),
        activations=counted.activations if counted else None,
        traffic_bytes=counted.traffic_bytes if counted else None,
        arithmetic_intensity=intensity,
        macs_by_operator=counted.by_operator if counted else {},
        uncounted=counted.uncounted if counted else {},
        reasons=reasons,
        note=None
        if counted is None or by_torch is None
        else describe_difference(counted.by_convention, by_torch),
    )


def count_nonzero(model: nn.Module) -> int:
    """Return the number of parameters that are not zero; shared parameters count once."""
    return sum(int(torch.count_nonzero(parameter.detach())) for parameter in model.parameters())


def count_multiply_adds(model: nn.Module, inputs: InputSpec) -> MultiplyAdds:
    """Count one forward pass of batch 1 by the rules of this package and, beyond the convention, fvcore's.

    Raises whatever the model raises when it is traced.
    """
    with _untouched(model), _plain_operators():
        traced = analyse(model, inputs.example_for(model, 1))
    return MultiplyAdds(
        by_convention=dict(traced.macs),
        beyond=dict(traced.beyond),
        uncounted=dict(sorted(traced.uncounted.items())),
        activations=traced.outputs,
        traffic_bytes=FP32_BYTES * traced.moved,
    )


def count_by_operator_torch(model: nn.Module, inputs: InputSpec) -> dict[str, int]:
    """Count the same pass with torch.utils.flop_counter, halved: the cross-check, by torch's operators."""
    with _untouched(model), _plain_operators(), FlopCounterMode(display=False) as counter:
        model(inputs.example_for(model, 1))
    counts = counter.get_flop_counts().get("Global", {})
    return {operator.__name__: flops // 2 for operator, flops in counts.items()}


def count_multiply_adds_torch(model: nn.Module, inputs: InputSpec) -> int:
    """Return torch's own count of the same pass, over all operators."""
    return sum(count_by_operator_torch(model, inputs).values())


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
        with kept_settings(), torch.no_grad():
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


def _line(error: Exception) -> str:
    return in_words(error)[:200] or "no message"
