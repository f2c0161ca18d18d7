"""What a model costs: counts, and latency measured in a process of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdbench.efficiency.columns import columns
from kdbench.efficiency.measure import ModelJob, measure
from kdbench.efficiency.protocol import Protocol
from kdbench.efficiency.report import CostReport

if TYPE_CHECKING:
    from kdbench.efficiency.counts import Counts, count

__all__ = ["CostReport", "Counts", "ModelJob", "Protocol", "columns", "count", "measure"]


def __getattr__(name: str) -> Any:
    # Only counting needs torch in this process; what asks for columns or a protocol does not wait for it.
    if name not in ("Counts", "count"):
        raise AttributeError(f"module 'kdbench.efficiency' has no attribute '{name}'")
    from kdbench.efficiency import counts

    return getattr(counts, name)


def __dir__() -> list[str]:
    return sorted(__all__)
