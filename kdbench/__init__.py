"""kdbench: an evaluation benchmark suite for knowledge distillation and model compression.

>>> import kdbench
>>> suite = kdbench.Suite.load("quickstart")  # doctest: +SKIP
>>> outcome = kdbench.run(suite)  # doctest: +SKIP
>>> kdbench.load(outcome.path)  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdbench.efficiency.measure import measure
    from kdbench.plan import make_plan
    from kdbench.report import compare, rank, write_report
    from kdbench.runner import run
    from kdbench.runner.evaluate import evaluate
    from kdbench.store import check, load
    from kdbench.suite import Suite

__version__ = "0.1.0"
__all__ = [
    "Suite",
    "check",
    "compare",
    "evaluate",
    "load",
    "make_plan",
    "measure",
    "rank",
    "run",
    "write_report",
]

# Imported when first used: the reading side must work, and quickly, where torch is not installed.
_HOMES = {
    "Suite": ("kdbench.suite", "Suite"),
    "check": ("kdbench.store", "check"),
    "compare": ("kdbench.report", "compare"),
    "evaluate": ("kdbench.runner.evaluate", "evaluate"),
    "load": ("kdbench.store", "load"),
    "make_plan": ("kdbench.plan", "make_plan"),
    "measure": ("kdbench.efficiency.measure", "measure"),
    "rank": ("kdbench.report", "rank"),
    "run": ("kdbench.runner", "run"),
    "write_report": ("kdbench.report", "write_report"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'kdbench' has no attribute '{name}'")
    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted([*__all__, "__doc__", "__version__"])
