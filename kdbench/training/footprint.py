"""The memory that a model in training takes: what it holds throughout, and what one step needs on top."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from kdbench.inputs import Inputs
from kdbench.shared_state import kept_settings, kept_streams
from kdbench.training.trainee import Trainee

# What an optimiser keeps for each trained parameter.
_MOMENTS = {"sgd": 1, "adam": 2, "adamw": 2}


def held_bytes(trainee: Trainee) -> int:
    """Return how many bytes a trainee holds from its first step to its last.

    Weights and buffers of the student, of its adapters and of a teacher of its own; for each trained
    parameter its gradient and the moments of the optimiser; and the weights of the best epoch.
    """
    networks = [trainee.model, trainee.adapters]
    networks += [trainee.own_teacher] if trainee.own_teacher else []
    tensors = (tensor for network in networks for tensor in (*network.parameters(), *network.buffers()))
    best = trainee.model.state_dict().values()
    trained = sum(parameter.nbytes for parameter in trainee.trained)
    return _distinct(tensors) + (1 + _MOMENTS[trainee.recipe.optimizer]) * trained + _distinct(best)


def step_bytes(model: nn.Module, x: Inputs) -> int:
    """Return how many bytes a training step on a batch keeps for its backward pass.

    The tensors that autograd saves are summed, each storage once, without the model's own weights.
    Neither random streams nor settings of torch are other ones afterwards.
    """
    own: set[int] = set()
    saved: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in own:
            saved[address] = tensor  # held, so that its memory is not given to the next
        return tensor

    with kept_settings(), kept_streams():
        copied = copy.deepcopy(model).train()
        own |= {tensor.untyped_storage().data_ptr() for tensor in copied.state_dict().values()}
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept):
            copied(x)
    return _distinct(saved.values())


def _distinct(tensors: Iterable[Tensor]) -> int:
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())
