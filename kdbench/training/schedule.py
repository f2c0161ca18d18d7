"""Learning-rate schedules as pure functions of progress, and the optimisers of a recipe."""

from __future__ import annotations

from collections.abc import Iterable
from math import cos, pi

import torch
from torch import nn

from kdbench.suite.schema import Recipe

# Smith and Topin 2018, with the shares that torch's OneCycleLR takes as defaults.
ONE_CYCLE_RISE = 0.3
ONE_CYCLE_START = 1 / 25
ONE_CYCLE_END = 1e-4 / 25


def factor(recipe: Recipe, progress: float) -> float:
    """Return the share of the recipe's learning rate at a progress from 0 to 1.

    ``constant``: 1. ``step``: γ to the number of milestones (in epochs) that have passed.
    ``cosine``: (1 + cos πp)/2. ``one_cycle``: from 1/25 up to 1 over the first 30 %, then down along
    cosines. A ``warmup`` share rises linearly from 0 before constant, step and cosine, and cosine
    then covers the rest.
    """
    if recipe.schedule == "one_cycle":
        if progress < ONE_CYCLE_RISE:
            return _cosine(ONE_CYCLE_START, 1.0, progress / ONE_CYCLE_RISE)
        return _cosine(1.0, ONE_CYCLE_END, (progress - ONE_CYCLE_RISE) / (1 - ONE_CYCLE_RISE))
    if progress < recipe.warmup:
        return progress / recipe.warmup
    if recipe.schedule == "constant":
        return 1.0
    if recipe.schedule == "step":
        passed = sum(progress * recipe.epochs >= milestone for milestone in recipe.milestones)
        return recipe.gamma**passed
    return _cosine(1.0, 0.0, (progress - recipe.warmup) / (1 - recipe.warmup))


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + cos(pi * share)) / 2


def make_optimizer(recipe: Recipe, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the optimiser of a recipe; the fused kernels do one pass over all parameters."""
    parameters = list(parameters)
    if recipe.optimizer == "sgd":
        sgd = torch.optim.SGD(
            parameters,
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        if recipe.momentum:
            # The fused kernel cannot begin a parameter's momentum while others have one, as happens where a
            # staged method trains it only later. Zeros give the same first step.
            for parameter in parameters:
                sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return sgd
    optimizer = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return optimizer(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
