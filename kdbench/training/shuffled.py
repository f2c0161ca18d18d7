"""A teacher that knows nothing: its logits, with the entries of every example in a random order.

Every value stays, so the soft targets keep their entropy and their confidence at any temperature; which class
a value belongs to is lost, and with it whatever the teacher knows. What a method still gains from such
targets is regularisation and not transfer. An example keeps one order for the whole training, as a teacher,
being a function of the example, would: a new order each epoch would average out to the uniform distribution.
"""

from __future__ import annotations

import torch
from torch import Tensor

# SplitMix64 (Steele, Lea, Flood 2014): a counter is turned into 64 random bits, on any device the same.
# Integers are signed here, so that the constants are taken modulo 2⁶⁴ into [−2⁶³, 2⁶³).
STEP = 0x9E3779B97F4A7C15 - (1 << 64)
FACTORS = (0xBF58476D1CE4E5B9 - (1 << 64), 0x94D049BB133111EB - (1 << 64))


def shuffled(logits: Tensor, index: Tensor, seed: int) -> Tensor:
    """Return logits with the entries of each row in an order that the row's example and the seed decide.

    Args:
        logits: (B, K).
        index: what tells examples apart (B,), as their places in the training split do.
        seed: decides the orders; all K! are equally likely.

    >>> rows = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    >>> shuffled(rows, torch.tensor([7, 8]), seed=0).sort().values.equal(rows)
    True
    """
    states = split_mix(seed + STEP * (index + 1))
    places = torch.arange(1, logits.shape[1] + 1, device=logits.device)
    return logits.gather(1, split_mix(states[:, None] + STEP * places).argsort(dim=1))


def split_mix(state: Tensor) -> Tensor:
    """Return 64 random bits for each state of a SplitMix64 generator, as signed integers."""
    state = (state ^ _shifted(state, 30)) * FACTORS[0]
    state = (state ^ _shifted(state, 27)) * FACTORS[1]
    return state ^ _shifted(state, 31)


def _shifted(bits: Tensor, places: int) -> Tensor:
    """Shift to the right and fill with zeros; torch fills with the sign."""
    return (bits >> places) & ((1 << (64 - places)) - 1)
