"""Does kdbench find differences where there are none? A configuration against itself, and known truths.

``python benchmarks/aa.py`` trains one small student from many seeds, once, and compares disjoint groups of
them, which differ in nothing but their seeds, by the code that compares methods. Every comparison has cells
of its own, so that they are independent. It then draws data with a known truth and counts how often each
interval covers it. Written are ``aa.json`` and ``aa.md``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from coverage_checks import coverages
from observed_shares import Share, as_markdown

import kdbench
from kdbench.analysis.comparison import ALPHA, CONTROL, Comparison, compare_methods
from kdbench.analysis.rows import Row
from kdbench.analysis.summary import Summary, summarise
from kdbench.suite import Suite

SUITE = {
    "name": "aa",
    "description": "one student, trained from many seeds, to be compared with itself",
    "dataset": {"name": "digits", "validation_fraction": 0},
    "teachers": [{"name": "mlp_16", "recipe": {"epochs": 1}}],
    "students": ["mlp_16"],
    "methods": [CONTROL],
    "recipe": {"epochs": 5, "batch_size": 64, "lr": 0.1, "precision": "fp32"},
    "measure": {"latency": False},
}
COMPARISONS = 200
QUICK = 8
SEEDS = 3
# A family is compared as one run would be: so many methods against the same control, with Holm's correction.
FAMILY = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} comparisons: whether it works at all")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--run", type=Path, default=Path("runs/aa"), help="run directory of the cells")
    parser.add_argument("--out", type=Path, help="folder for aa.json and aa.md, such as results/aa")
    options = parser.parse_args()
    comparisons = QUICK if options.quick else COMPARISONS
    cells = comparisons * 2 * SEEDS
    kdbench.run(Suite.model_validate(SUITE | {"seeds": list(range(cells))}), options.run)
    (row,) = (summary := summarise(options.run)).measured
    parts = {
        "A configuration against itself": list(false_positives(summary, row, cells)),
        "Known truth, simulated": list(coverages(repetitions=40 if options.quick else 2_500)),
    }
    accuracy = row.metrics["top1"]
    assert accuracy.mean is not None and accuracy.sd is not None
    about = (
        f"{row.student} on {summary.manifest['dataset']}, {cells:,} trainings from different seeds, "
        f"{summary.test_size:,} test examples, top-1 {100 * accuracy.mean:.1f} % with a standard deviation "
        f"of {100 * accuracy.sd:.2f} points; kdbench {kdbench.__version__}"
    )
    content = {
        "about": about,
        **{title: [share.as_json() for share in part] for title, part in parts.items()},
    }
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    page = as_markdown(about, parts)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "aa.json").write_text(text)
        (options.out / "aa.md").write_text(page)
    print(text if options.json else page)


def false_positives(summary: Summary, row: Row, cells: int) -> Iterator[Share]:
    """Yield how often a difference is shown, or zero lies outside of an interval."""
    for seeds in (SEEDS, 5):
        alone = [found for family in families(summary, row, cells, seeds, 1) for found in family]
        n, name = len(alone), f"{seeds} seeds against {seeds}"
        yield Share(f"{name}: a difference is shown", sum(map(is_shown, alone)), n, at_most=ALPHA)
        yield Share(
            f"{name}: interval over seeds leaves out 0", sum(map(seeds_miss, alone)), n, at_most=ALPHA
        )
        yield Share(
            f"{name}: interval over seeds and examples leaves out 0",
            sum(map(both_miss, alone)),
            n,
            at_most=ALPHA,
        )
        yield Share(
            f"{name}: McNemar's p < 0.05, which is of these trained models only",
            sum((found.examples.p or 0.0) < ALPHA for found in alone),
            n,
        )
    together = list(families(summary, row, cells, SEEDS, FAMILY))
    yield Share(
        f"{FAMILY} methods against one control, {SEEDS} seeds: any difference is shown (Holm)",
        sum(any(map(is_shown, family)) for family in together),
        len(together),
        at_most=ALPHA,
    )


def families(summary: Summary, row: Row, cells: int, seeds: int, methods: int) -> Iterator[list[Comparison]]:
    """Yield the comparisons of disjoint groups of cells: a control, and methods that are the same."""
    size = seeds * (methods + 1)
    for start in range(0, cells - size + 1, size):
        rows = tuple(
            group(row, start + seeds * number, seeds, f"method {number}" if number else CONTROL)
            for number in range(methods + 1)
        )
        yield compare_methods(replace(summary, students=rows))


def group(row: Row, start: int, seeds: int, method: str) -> Row:
    """Return a row of some of the cells, as if they were a method's seeds 0, 1, ..."""
    chosen = row.seeds[start : start + seeds]
    top1 = row.values["top1"]
    return replace(
        row,
        method=method,
        seeds=tuple(range(seeds)),
        values={"top1": {number: top1[seed] for number, seed in enumerate(chosen)}},
        ids={number: row.ids[seed] for number, seed in enumerate(chosen)},
    )


def is_shown(found: Comparison) -> bool:
    return found.verdict not in (None, "no difference shown")


def seeds_miss(found: Comparison) -> bool:
    return misses(found.low, found.high)


def both_miss(found: Comparison) -> bool:
    return misses(found.examples.both_low, found.examples.both_high)


def misses(low: float | None, high: float | None) -> bool:
    """Return whether an interval leaves out zero; where there is none, nothing is claimed."""
    return low is not None and high is not None and not low <= 0 <= high


if __name__ == "__main__":
    main()
