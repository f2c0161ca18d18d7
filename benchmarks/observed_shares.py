"""Shares that were counted beside what they should be, with their binomial interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from statsmodels.stats.proportion import proportion_confint


@dataclass(frozen=True)
class Share:
    """How many of n cases something held of; ``at_most`` or ``at_least`` is what is claimed of its rate.

    A claim holds unless the exact 95 % binomial interval (Clopper & Pearson, 1934) contradicts it; without a
    claim the share is shown for comparison.
    """

    name: str
    count: int
    n: int
    at_most: float | None = None
    at_least: float | None = None

    @property
    def interval(self) -> tuple[float, float]:
        low, high = proportion_confint(self.count, self.n, alpha=0.05, method="beta")
        return float(low), float(high)

    @property
    def holds(self) -> bool | None:
        low, high = self.interval
        if self.at_most is not None:
            return low <= self.at_most
        return None if self.at_least is None else high >= self.at_least

    @property
    def claim(self) -> str:
        if self.at_most is not None:
            return f"≤ {100 * self.at_most:.0f} %"
        return "–" if self.at_least is None else f"≥ {100 * self.at_least:.0f} %"

    def as_json(self) -> dict[str, Any]:
        low, high = self.interval
        return vars(self) | {"rate": self.count / self.n, "low": low, "high": high, "holds": self.holds}


def as_markdown(about: str, parts: Mapping[str, Sequence[Share]]) -> str:
    """Return the tables, and what they rest on."""
    lines = ["# A/A check\n", f"{about}.\n"]
    for title, shares in parts.items():
        lines += [
            f"## {title}\n",
            "| what | claimed | observed | 95 % interval | n | holds |",
            "| :--- | ---: | ---: | ---: | ---: | :--- |",
        ]
        lines += [_line(share) for share in shares]
        lines.append("")
    lines += [
        "A claim holds unless the exact binomial interval of what was observed contradicts it, which chance "
        "alone does to one of forty claims that are just true. Comparisons of one line are independent; "
        "lines share the trained cells. Lines without a claim show what a number must not be used for.",
        "",
        "`python benchmarks/aa.py --out results/aa` makes these tables anew.",
    ]
    return "\n".join(lines) + "\n"


def _line(share: Share) -> str:
    low, high = share.interval
    holds = {True: "yes", False: "**no**", None: "–"}[share.holds]
    observed = f"{100 * share.count / share.n:.1f} %"
    return (
        f"| {share.name} | {share.claim} | {observed} | {100 * low:.1f} to {100 * high:.1f} % | "
        f"{share.n:,} | {holds} |"
    )
