"""kdbench: an evaluation benchmark suite for knowledge distillation and model compression.

>>> import kdbench
>>> suite = kdbench.Suite.load("quickstart")  # doctest: +SKIP
>>> outcome = kdbench.run(suite)  # doctest: +SKIP
>>> kdbench.load(outcome.path)  # doctest: +SKIP
"""

from __future__ import annotations

import importlib

# As in typing, which is not imported: ``python -m kdbench`` may still find a user's file of that name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from kdbench.efficiency.measure import measure
    from kdbench.plan import make_plan
    from kdbench.report import compare, pick, rank, write_report
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
    "pick",
    "rank",
    "run",
    "write_report",
]

# Imported when first used: the reading side must work, and quickly, where torch is not installed.
_HOMES = {
    "Suite": "kdbench.suite",
    "check": "kdbench.store",
    "compare": "kdbench.report",
    "evaluate": "kdbench.runner.evaluate",
    "load": "kdbench.store",
    "make_plan": "kdbench.plan",
    "measure": "kdbench.efficiency.measure",
    "pick": "kdbench.report",
    "rank": "kdbench.report",
    "run": "kdbench.runner",
    "write_report": "kdbench.report",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'kdbench' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__doc__", "__version__"])
