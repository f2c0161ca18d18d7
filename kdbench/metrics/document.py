"""The table of all metrics in the README.md of this package, written from the registry and the docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from kdbench.column import ARROWS
from kdbench.metrics.registry import Metric, ordered

README = Path(__file__).with_name("README.md")

OPENING = """\
# Metrics

<!-- Written by `python -m kdbench.metrics` from the docstrings of this package: change them, not this. -->

What kdbench computes from the logits, labels and pooled features of a student and its teacher: {count}
columns. Values are means over the examples of the test split, computed in float64, at T = 1 unless stated;
logarithms are natural. ↑: higher is better, ↓: lower is better, neither: it describes. A metric without a
value is null in the record, with the reason: its input is absent or empty, it is not finite, or it is
undefined as the table says. Columns that end in `_best_val` are the same metrics at the epoch best on
validation.

N is the number of examples, R of those whose features are kept, K of classes; p are the probabilities of the
student (s) or the teacher (t), z their logits, y the label, ŷ the predicted class. Δ_c is the change of class
c's recall from teacher to student less the change of the top-1 accuracy. Of data with several labels an
example (`multi_label`) there are the metrics of `multi_label.py` and those of features, and no others; K is
then the number of labels. `kdbench list metrics` prints the same columns, with those of cost.
"""


CLOSING = """\
## Cost

Latencies, throughput and speed-up have one footing, so that the figures of a row agree: the teacher's latency
divided by the student's is the speed-up, and batch / latency the throughput. All models take turns in every
round. Let s(r) be the median of a model's calls in round r, t(r) the teacher's, and T the median of t(r) over
the rounds. The pace of the machine in a round is t(r) / T.

| column | definition |
|---|---|
| `latency_*_p50_ms` ↓ | median over the rounds of s(r) / (t(r) / T); of the teacher itself T |
| `latency_*_p90_ms`, `_p99_ms` ↓ | percentile of all calls / the pace of their round; rounds weigh alike |
| `throughput_*_per_s` ↑ | batch / `latency_*_p50_ms` |
| `speedup_*` ↑ | T / `latency_*_p50_ms`: one over the median of the rounds' s(r) / t(r) |

Without a teacher the pace is 1. Intervals are of these figures, by drawing rounds. A figure is null, with the
reason, where its 95 % interval or the interquartile range of its rounds is wider than half of it; the
latencies of all models are null where that holds for T. Raw samples are kept as they were taken, and
`kdbench report RUN --retime` computes the figures of an older run from them.

`macs` counts convolutions, matrix products, recurrent layers and attention. `macs_uncounted` is the number
of calls that may multiply matrices and could not be counted: operators without a rule, custom functions,
scripts. Above 0, `macs`, `macs_fvcore` and `activations` are lower bounds (≥), `theoretical_speedup` is an
upper bound (≤), and the model is on no Pareto front of multiply-adds.
"""


def document() -> str:
    """Return the README of the metrics: a table for each family, in display order.

    >>> "| `top1` ↑ | share of examples whose predicted class is the label" in document()
    True
    """
    metrics = ordered()
    parts = [OPENING.format(count=len(metrics))]
    for family in dict.fromkeys(entry.column.family for entry in metrics):
        members = [entry for entry in metrics if entry.column.family == family]
        parts.append("\n".join(_table(family, members)) + "\n")
    return "\n".join([*parts, CLOSING])


def _table(family: str, members: list[Metric]) -> Iterator[str]:
    yield f"## {family.capitalize()}\n"
    yield "| column | definition | range | undefined | source |"
    yield "|---|---|---|---|---|"
    for entry in members:
        column = entry.column
        arrow = f" {ARROWS[column.direction]}".rstrip()
        span = f"{column.range} {column.unit}".rstrip()
        cells = (f"`{column.name}`{arrow}", _definition(entry), span, _undefined(entry), column.source)
        yield f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _text(entry: Metric) -> str:
    return " ".join((inspect.getdoc(entry.function) or "").partition(">>>")[0].split())


def _definition(entry: Metric) -> str:
    """Return what the docstring says before it comes to the shapes."""
    return _text(entry).partition(" Shapes:")[0].removeprefix("Return the ").removeprefix("Return ")


def _undefined(entry: Metric) -> str:
    """Return when the metric has no value, beyond what it lacks: inputs that are absent or empty."""
    match = re.search(r"Raises Undefined (?:where )?(.*?)(?: and ValueError|[.:](?: |$))", _text(entry))
    return match.group(1) if match else ""


def write() -> Path:
    """Write the README and return its path."""
    README.write_text(document())
    return README
