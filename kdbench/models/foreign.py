"""Networks from elsewhere, brought to what the rest of the package relies on.

The networks of the zoo return logits, leave their inputs as they are and take channels_last memory; tests
hold them to it. Of any other network nothing of this is known. Hooks make up for it, so that the network, the
names of its weights and its modules stay what they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from kdbench.errors import UserError
from kdbench.inputs import InputSpec, changed
from kdbench.models.features import run_example
from kdbench.models.outputs import logits_of


def adapt(model: nn.Module, inputs: InputSpec) -> None:
    """Make a network return its logits alone, and make the weights that it leaves to its first pass.

    Raises UserError for TorchScript, which takes no hooks, and for a lazy weight that no pass makes.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise UserError(
            "it is compiled by TorchScript, which takes no hooks: return the nn.Module it came from."
        )
    model.register_forward_hook(_return_logits)
    if len(inputs.fields) > 1:
        model.register_forward_pre_hook(_own_mapping)
    if not _lazy_weights(model):
        return
    run_example(model, inputs)
    left = _lazy_weights(model)
    if left:
        raise UserError(
            f"its lazy weight '{left[0]}' has no shape after a forward pass: no input reaches it."
        )


def give_own_input(model: nn.Module, memory_format: torch.memory_format = torch.preserve_format) -> None:
    """Show a network a copy of each input, so that nobody else sees what it writes there.

    The copy lies in memory as the input does, or where that has four dimensions in ``memory_format``.
    """

    def own(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return value.clone(memory_format=memory_format if value.dim() == 4 else torch.preserve_format)

    def copied(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(changed(value, own) for value in inputs)

    model.register_forward_pre_hook(copied)


def _own_mapping(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Show a network a mapping that it may take entries out of; the tensors are the same."""
    return tuple(dict(value) if isinstance(value, Mapping) else value for value in inputs)


def _return_logits(module: nn.Module, inputs: Any, output: Any) -> Tensor | None:
    return None if isinstance(output, Tensor) else logits_of(output)


def _lazy_weights(model: nn.Module) -> list[str]:
    named = (*model.named_parameters(), *model.named_buffers())
    return [name for name, tensor in named if is_lazy(tensor)]
