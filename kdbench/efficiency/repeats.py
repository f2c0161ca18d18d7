"""The same measurement made several times: medians over the repeats, and how far the repeats spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

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
        found = (report.metrics[label].get(column) for report in self.reports)
        return [value for value in found if value is not None]

    def median(self, label: str, column: str) -> Number:
        """Return the median over the repeats, or the one figure that there is, or None."""
        values = self.values(label, column)
        return (median(values) if len(values) > 1 else values[0]) if values else None

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
        found: dict[str, str] = {}
        for report in self.reports:
            found = report.noise | found
        return found
