"""What a network returns, and the one rule by which it becomes logits.

A tensor is the logits. Of a mapping they are the entry ``logits``, of an object the attribute ``logits``, of
a tuple or list the first tensor. Anything else has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor


class NoLogits(TypeError):
    """Raised where a network returns something that holds no logits."""


def logits_of(output: Any) -> Tensor:
    """Return the logits of what a network returned; raises NoLogits where it holds none."""
    if isinstance(output, Tensor):
        return output
    named = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(named, Tensor):
        return named
    first = first_tensor(output)
    if isinstance(first, Tensor):
        return first
    raise NoLogits(
        "it must return logits of shape (batch, classes): as a tensor, as the first tensor of a tuple, as "
        f"the entry 'logits' of a dictionary or as the attribute .logits; it returned {described(output)}"
    )


def first_tensor(output: Any) -> Any:
    """Return the tensor that a module's output consists of or opens with (a GRU returns a pair)."""
    if isinstance(output, tuple | list):
        return next((part for part in output if isinstance(part, Tensor)), None)
    return output


def described(output: Any) -> str:
    """Return in a few words what a network returned."""
    kind = type(output).__name__
    if isinstance(output, Mapping):
        return f"{kind} with {', '.join(map(str, output)) or 'no entries'}"
    if isinstance(output, tuple | list):
        return f"{kind} of {len(output)}"
    return kind
