"""What the cost files of a run say beside the figures in its records: intervals, and how quiet it was."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kdbench.analysis.summary import Summary
from kdbench.store import read_json

LATENCY = re.compile(r"latency_(?P<device>[a-z]+)_b(?P<batch>\d+)_p50_ms")
TIMED = re.compile(r"(?:latency|throughput|speedup)_(?P<pass>(?:cpu|cuda)_b\d+(?:_t\d+)?)(?=_|$)")


@dataclass(frozen=True)
class CostFiles:
    """The cost file of each teacher and its students; files that are not there are told by nothing."""

    contents: Mapping[str, Mapping[str, Any]]

    def interval(self, teacher: str, model: str, column: str) -> tuple[float, float] | None:
        """Return the 95 % interval of a model's timing, where one was taken."""
        found = self.contents.get(teacher, {}).get("intervals", {}).get(model, {}).get(column)
        return None if found is None else (found[0], found[1])

    def disturbances(self, columns: Iterable[str]) -> str | None:
        """Return what disturbed the passes that timing columns were taken in, by pass; None for nothing."""
        wanted = {match["pass"] for column in columns if (match := TIMED.match(column))}
        found: dict[str, None] = {}
        for content in self.contents.values():
            passes = content.get("conditions", {}).get("quiet", {}).get("during", {})
            told = {name: state["noise"] for name, state in passes.items() if name in wanted}
            found |= dict.fromkeys(f"{name}: {noise}" for name, noise in told.items() if noise)
        return "; ".join(found) or None

    def uncounted(self, teacher: str, model: str) -> str | None:
        """Return which operators of a model may multiply and are not counted, with their calls."""
        counts = self.contents.get(teacher, {}).get("conditions", {}).get("counts", {})
        calls = counts.get(model, {}).get("uncounted", {})
        return ", ".join(f"{name} ({times}×)" for name, times in calls.items()) or None


def read_costs(summary: Summary) -> CostFiles:
    """Return the cost files that the records of a run refer to, by the label of the teacher."""
    contents: dict[str, Any] = {}
    for record in summary.records:
        path = summary.run.path / "costs" / str(record.cost_id) / "cost.json"
        if record.teacher not in contents and path.is_file():
            contents[record.teacher] = read_json(path)
    return CostFiles(contents)
