"""What a model costs: counts, and latency measured in a process of its own."""

from kdbench.efficiency.columns import columns
from kdbench.efficiency.counts import Counts, count
from kdbench.efficiency.measure import CostReport, ModelJob, measure
from kdbench.efficiency.protocol import Protocol

__all__ = ["CostReport", "Counts", "ModelJob", "Protocol", "columns", "count", "measure"]
