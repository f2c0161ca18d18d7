"""Batch-norm folded into the convolution before it, for a model that only runs forward.

In evaluation mode batch-norm is an affine map of each channel, so it can be multiplied into the weights of
the convolution whose output it takes: W' = W·γ/√(σ² + ε), b' = (b − μ)·γ/√(σ² + ε) + β (Jacob et al. 2018,
arXiv 1712.05877, section 3.2). The pass over the feature map is saved; the values differ by rounding.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from kdbench.inputs import Inputs

# What rounding in float32 may change, as a share of the largest logit.
TOLERANCE = 1e-4


def folded(model: nn.Module, example: Inputs, untouched: Collection[str] = ()) -> nn.Module:
    """Return a copy of a model in evaluation mode with its batch-norms folded, or the model itself.

    A batch-norm is left as it is where folding it changes the logits on ``example``, a batch, by more
    than rounding, as where the convolution's output is also read elsewhere. A folded one leaves an identity
    of its name behind, so hooks on it still see its output; the convolutions named in ``untouched`` stay.
    The model itself comes back where nothing is folded.
    """
    pairs = [pair for pair in _pairs(model, example) if pair[0] not in untouched]
    if not pairs:
        return model
    expected = _logits(model, example)
    together = _fold(model, pairs)
    if _alike(expected, _logits(together, example)):
        return together
    result = model
    for pair in pairs:
        candidate = _fold(result, [pair])
        if _alike(expected, _logits(candidate, example)):
            result = candidate
    return result


def _fold(model: nn.Module, pairs: Iterable[tuple[str, str]]) -> nn.Module:
    copied = copy.deepcopy(model).eval()
    for convolution, norm in pairs:
        before, after = copied.get_submodule(convolution), copied.get_submodule(norm)
        assert isinstance(before, nn.Conv2d) and isinstance(after, nn.BatchNorm2d)
        # The product keeps the memory format of the convolution, which decides that of its output.
        copied.set_submodule(convolution, fuse_conv_bn_eval(before, after))
        copied.set_submodule(norm, nn.Identity())
    return copied


def _pairs(model: nn.Module, example: Inputs) -> list[tuple[str, str]]:
    """Return the names of each convolution and the batch-norm that takes its very output.

    Modules that run more than once are left out.
    """
    calls: Counter[str] = Counter()
    outputs: dict[int, tuple[str, Tensor]] = {}
    pairs: list[tuple[str, str]] = []

    def convolved(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            calls[name] += 1
            outputs[id(output)] = (name, output)  # held, so that no other tensor takes its id

        return hook

    def normalising(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            calls[name] += 1
            if id(inputs[0]) in outputs:
                pairs.append((outputs[id(inputs[0])][0], name))

        return hook

    handles = []
    for name, module in model.named_modules():
        if type(module) is nn.Conv2d:
            handles.append(module.register_forward_hook(convolved(name)))
        elif type(module) is nn.BatchNorm2d and module.track_running_stats:
            handles.append(module.register_forward_pre_hook(normalising(name)))
    try:
        _logits(model, example)
    finally:
        for handle in handles:
            handle.remove()
    followers = Counter(convolution for convolution, _ in pairs)
    return [
        (convolution, norm)
        for convolution, norm in pairs
        if calls[norm] == calls[convolution] == followers[convolution] == 1
    ]


def _alike(expected: Tensor, logits: Tensor) -> bool:
    return bool((expected - logits).abs().max() <= TOLERANCE * expected.abs().max())


@torch.no_grad()
def _logits(model: nn.Module, example: Inputs) -> Tensor:
    training = model.training
    model.eval()
    try:
        return model(example).float()
    finally:
        model.train(training)
