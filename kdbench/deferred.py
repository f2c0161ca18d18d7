"""torch, imported when it is first used.

What is planned, listed and compared needs the methods' names, defaults and conditions, but not torch,
whose import takes longer than all of that. A file that says ``from kdbench.deferred import F, Tensor, nn``
can be imported without it, as long as it uses them inside functions only, and ``Tensor`` in annotations only.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn
else:

    class _Deferred:
        """Stands for a module until an attribute of it is asked for."""

        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, attribute: str) -> Any:
            return getattr(importlib.import_module(self._name), attribute)

    Tensor = Any
    torch = _Deferred("torch")
    nn = _Deferred("torch.nn")
    F = _Deferred("torch.nn.functional")

__all__ = ["F", "Tensor", "nn", "torch"]
