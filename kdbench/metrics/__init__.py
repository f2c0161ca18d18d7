"""Metrics: pure functions of logits, labels and features, each filed under the column that it fills.

`score` runs all of them, `catalogue` says what they mean. A metric is added by a new file in this
package: a function under `metric`, whose parameter names say which tensors it needs, and which raises
`Undefined` where it has no value. All of them raise ValueError where shapes disagree, and `Undefined` where
there are no examples. No other file changes::

    @metric("least_probability", title="Mean lowest probability", family="calibration",
            direction="none", range="[0, 1]", source="the file's author")
    def least_probability(log_probs: Tensor) -> float:
        return float(log_probs.amin(dim=1).exp().mean())

``python -m kdbench.metrics`` writes the table of all of them into the README.md of this package.
"""

from kdbench.metrics import calibration, fidelity, outcomes, quality
from kdbench.metrics.registry import METRICS, catalogue, metric, ordered, score
from kdbench.metrics.tensors import Undefined

__all__ = [
    "METRICS",
    "Undefined",
    "calibration",
    "catalogue",
    "fidelity",
    "metric",
    "ordered",
    "outcomes",
    "quality",
    "score",
]
