"""The same measurement made several times: medians over the repeats, and how far the repeats spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from kdbench.bounds import UNCOUNTED
from kdbench.column import Column
from kdbench.efficiency.columns import timing_names
from kdbench.efficiency.report import CostReport, Number


def spread(values: Sequence[float]) -> float | None:
    """Return the largest distance from the median as a share of it; None with fewer than two values.

    >>> spread([1.0, 1.02, 0.95])
    0.05
    """
    if len(values) < 2:
        return None
    middle = median(values)
    return round(max(abs(value - middle) for value in values) / middle, 6) if middle else None


@dataclass(frozen=True)
class Repeats:
    """Reports of the same models, measured one after the other, each in a process of its own."""

    reports: tuple[CostReport, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """The models."""
        return tuple(self.reports[0].metrics)

    def values(self, label: str, column: str) -> list[float]:
        """Return the figures that the repeats gave; those that gave none are left out."""
        figures = (report.metrics[label].get(column) for report in self.reports)
        return [value for value in figures if value is not None]

    @property
    def reference(self) -> str | None:
        """The model that speed-ups refer to."""
        name: str | None = self.reports[0].conditions.get("reference")
        return name

    def median(self, label: str, column: Column) -> Number:
        """Return the figure over the repeats, or the one that there is, or None.

        It is the median; of timings beside a reference that of the figures on the reference's pace in each
        repeat, as ``rounds`` has it within one, so that the speed-up still is the ratio of the latencies.
        """
        if column.is_timed and len(self.reports) > 1 and self.reference is not None:
            figure = self._on_pace(label, column)
            if figure is not None:
                return figure
        return self._middle(label, column.name)

    def uncounted(self, label: str) -> Number:
        """Return how many calls of a model may multiply and are not counted."""
        return self._middle(label, UNCOUNTED)

    def _middle(self, label: str, column: str) -> Number:
        values = self.values(label, column)
        return (median(values) if len(values) > 1 else values[0]) if values else None

    def _on_pace(self, label: str, column: Column) -> float | None:
        """Return the figure of a timing column; None where no repeat has it and both latencies."""
        assert self.reference is not None and column.place is not None
        latency = timing_names(column.place)["p50"]
        timed = [
            (report.metrics[label].get(column.name), own, reference)
            for report in self.reports
            if (own := report.metrics[label].get(latency)) is not None
            and (reference := report.metrics[self.reference].get(latency)) is not None
        ]
        rows = [(value, own, reference) for value, own, reference in timed if value is not None]
        if not rows:
            return None
        pace = median(reference for _, _, reference in rows)
        typical = pace * median(own / reference for _, own, reference in rows)
        if column.scale == "ms":
            return pace * median(value / reference for value, _, reference in rows)
        # Throughput × latency is the batch in every repeat, speed-up × latency the reference's.
        return (pace if column.scale == "ratio" else rows[0][0] * rows[0][1]) / typical

    def spread(self, label: str, column: str) -> float | None:
        """Return how far the repeats spread around their median."""
        return spread(self.values(label, column))

    def reasons(self, label: str) -> dict[str, str]:
        """Return why figures are missing in every repeat, by column."""
        first = self.reports[0]
        missing = [name for name in first.metrics[label] if not self.values(label, name)]
        return {name: first.reasons[label][name] for name in missing}

    @property
    def noise(self) -> dict[str, str]:
        """What was not quiet in any repeat, by pass; of several repeats the first that tells."""
        noise: dict[str, str] = {}
        for report in self.reports:
            noise = report.noise | noise
        return noise
