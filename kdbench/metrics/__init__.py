"""Metrics: pure functions of logits and labels, each filed under the column that it fills.

`score` runs all of them, `catalogue` says what they mean. A metric is added by a new file in this
package: a function under `metric`, whose parameter names say which tensors it needs, and which raises
`Undefined` where it has no value. No other file changes::

    @metric("confidence", title="Mean confidence", family="calibration", direction="none",
            range="[0, 1]", source="Hendrycks & Gimpel 2017")
    def confidence(log_probs: Tensor) -> float:
        return float(log_probs.amax(dim=1).exp().mean())
"""

from kdbench.metrics import calibration, fidelity, outcomes, quality
from kdbench.metrics.registry import catalogue, discover, metric, score
from kdbench.metrics.tensors import Undefined

__all__ = [
    "Undefined",
    "calibration",
    "catalogue",
    "fidelity",
    "metric",
    "outcomes",
    "quality",
    "score",
]

discover(__path__, __name__)
