"""What one traced forward pass does: fvcore walks the trace, and every call in it is looked at.

fvcore's own rules stand for what lies beyond the convention (norms, pooling, interpolation). What multiplies
matrices is counted by the rules here: fvcore has none for most operators, and some of its are not exact
(products that broadcast, einsum, whose count numpy rounds to four digits).
"""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from kdbench.efficiency.calls import Call
from kdbench.efficiency.operators import is_plain
from kdbench.inputs import Inputs

with warnings.catch_warnings():
    # fvcore compiles a loss with torch.jit.script on import, which newer torch announces as deprecated.
    warnings.simplefilter("ignore", FutureWarning)
    from fvcore.nn import FlopCountAnalysis

# fvcore's rules for what the published convention leaves out.
BEYOND = (
    "aten::batch_norm",
    "aten::group_norm",
    "aten::layer_norm",
    "aten::instance_norm",
    "aten::upsample_nearest2d",
    "aten::upsample_bilinear2d",
    "aten::adaptive_avg_pool2d",
    "aten::grid_sampler",
)
_SHOWN = {"_convolution": "conv", "convolution": "conv", "_convolution_mode": "conv"}


@dataclass
class Traced:
    """What one traced forward pass does.

    ``macs`` are the multiply-adds of the convention by operator, ``beyond`` those that fvcore counts besides
    it, and ``uncounted`` the calls of operators that may multiply and could not be counted. Of the operators
    in ``macs``, ``outputs`` are the elements of their first output, and ``moved`` the elements of all their
    operands and outputs.
    """

    macs: Counter[str] = field(default_factory=Counter)
    beyond: Counter[str] = field(default_factory=Counter)
    uncounted: Counter[str] = field(default_factory=Counter)
    outputs: int = 0
    moved: int = 0

    def add(self, call: Call) -> None:
        """Count one call, which is not plain."""
        counted = None if call.is_opaque() else call.multiply_adds()
        if counted is None:
            self.uncounted[call.name] += 1
        elif counted:
            name = call.name.partition("::")[2].removesuffix("_")
            self.macs[_SHOWN.get(name, name)] += counted
            self.outputs += call.output_elements
            self.moved += call.elements


class _Analysis(FlopCountAnalysis):
    """fvcore's walk over a trace, in which every call without a rule beyond the convention is looked at."""

    def __init__(self, model: nn.Module, example: Inputs, traced: Traced) -> None:
        super().__init__(model, (example,))
        self._traced = traced
        handles = self._op_handles
        self.clear_op_handles().set_op_handle(**{name: handles[name] for name in BEYOND})
        self.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")

    def _should_ignore_node(self, node: Any) -> bool:
        call = Call(node)
        if call.is_opaque() or not (call.name.startswith("prim::") or is_plain(call.name)):
            self._traced.add(call)
        return True


def analyse(model: nn.Module, example: Inputs) -> Traced:
    """Trace one forward pass and count what it does; raises whatever the model raises."""
    traced = Traced()
    analysis = _Analysis(model, example, traced)
    traced.beyond.update({name: int(value) for name, value in analysis.by_operator().items()})
    return traced
