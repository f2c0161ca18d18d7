"""What the cost files of a run say beside the figures in its records: intervals, and how quiet it was."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kdbench.analysis.summary import Summary
from kdbench.column import Column
from kdbench.place import Place

# Whose latency is named before others.
FAVOURITE = Place("cpu", 1)
MEDIAN = "latency_p50"
# What models cost that are not timed, in the order in which one stands for all.
COUNTS = ("macs", "params", "size_bytes")


def usual_latencies(columns: Mapping[str, Column]) -> list[str]:
    """Return the median latencies of models that run as they do by default, one example on the CPU first."""
    medians = [name for name, column in columns.items() if column.quantity == MEDIAN]
    places = {name: place for name in medians if (place := columns[name].place) and place.is_usual}
    return sorted(places, key=lambda name: places[name] != FAVOURITE)


def usual_costs(columns: Mapping[str, Column]) -> list[str]:
    """Return the costs that cheap may go by: the usual latencies, then counts."""
    return [*usual_latencies(columns), *(name for name in COUNTS if name in columns)]


@dataclass(frozen=True)
class CostFiles:
    """The cost file of each teacher and its students; files that are not there are told by nothing."""

    contents: Mapping[str, Mapping[str, Any]]

    def interval(self, teacher: str, model: str, column: str) -> tuple[float, float] | None:
        """Return the 95 % interval of a model's timing, where one was taken."""
        bounds = self.contents.get(teacher, {}).get("intervals", {}).get(model, {}).get(column)
        return None if bounds is None else (bounds[0], bounds[1])

    def disturbances(self, columns: Iterable[Column]) -> str | None:
        """Return what disturbed the passes that timing columns were taken in, by pass; None for nothing."""
        wanted = {column.place.turn for column in columns if column.place and column.is_timed}
        disturbances: dict[str, None] = {}
        for content in self.contents.values():
            passes = content.get("conditions", {}).get("quiet", {}).get("during", {})
            noises = {name: state["noise"] for name, state in passes.items() if name in wanted}
            disturbances |= dict.fromkeys(f"{name}: {noise}" for name, noise in noises.items() if noise)
        return "; ".join(disturbances) or None

    def uncounted(self, teacher: str, model: str) -> str | None:
        """Return which operators of a model may multiply and are not counted, with their calls."""
        counts = self.contents.get(teacher, {}).get("conditions", {}).get("counts", {})
        calls = counts.get(model, {}).get("uncounted", {})
        return ", ".join(f"{name} ({times}×)" for name, times in calls.items()) or None


def read_costs(summary: Summary) -> CostFiles:
    """Return the cost files that the records of a run refer to, by the label of the teacher."""
    contents: dict[str, Any] = {}
    for record in summary.records:
        if record.teacher not in contents and record.cost_id:
            contents[record.teacher] = summary.run.cost(record.cost_id)
    return CostFiles({teacher: content for teacher, content in contents.items() if content})
