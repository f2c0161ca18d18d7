"""What the models of a run cost, put into their records.

Cost is that of what is deployed: the model that was built and the structure that compressors gave it. So the
dense students of all methods and seeds share a measurement, and what a compressor made has its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from kdbench.column_names import is_timing
from kdbench.efficiency.columns import columns
from kdbench.plan import Loading, Node, Plan, Training
from kdbench.progress import Progress
from kdbench.runner.amendments.amendment import Due
from kdbench.runner.amendments.deployment import dense
from kdbench.runner.amendments.measurement import Measured, measured
from kdbench.runner.records import TRAIN_MACS
from kdbench.runner.scores import Scores
from kdbench.store import Record, RunDirectory, content_id

# Filled from a model's own weights and method, not from the measurement of its architecture.
OF_THE_NODE = ("params_nonzero", "params_trainable", "params_adapter", "params_training")
COUNTS = {column.name for column in columns(())} - {*OF_THE_NODE} | {TRAIN_MACS.name}
# A step of training is a forward pass and a backward pass of twice its work.
PASSES = 3


class Costs:
    """The amendment: counts, latencies and the work of training, as measured beside the teacher."""

    name = "costs"

    def __init__(self, plan: Plan, run: RunDirectory, examples: int, progress: Progress) -> None:
        """Measure what was not measured before; ``examples`` are those of the training split."""
        self._examples = examples
        self._by_teacher: dict[str, Measured] = {
            teacher.id: measured(plan, teacher, run, progress) for teacher in plan.teachers
        }

    def owns(self, name: str) -> bool:
        """Return whether a column is of costs."""
        return name in COUNTS or is_timing(name)

    def key(self, node: Node) -> str | None:
        """Return the id of the measurement, and of what it says of the node."""
        scores = self._scores(node)
        stated: Any = [scores.metrics, scores.reasons]
        return f"{self._of(node).id}:{content_id(stated)}"

    def scored(self, due: Sequence[Due]) -> Iterator[tuple[Record, Scores]]:
        """Yield the costs of the records."""
        for node, record in due:
            yield record, self._scores(node)

    def _of(self, node: Node) -> Measured:
        return self._by_teacher[(node.origin or node).id]

    def _scores(self, node: Node) -> Scores:
        known = self._of(node)
        label = known.deployments.of(node).label
        metrics, reasons = known.metrics[label], known.reasons[label]
        scores = Scores(
            {name: value for name, value in metrics.items() if name not in OF_THE_NODE},
            {name: text for name, text in reasons.items() if name not in OF_THE_NODE},
        )
        scores.add(*self._training(node, known))
        return scores

    def _training(self, node: Node, known: Measured) -> tuple[dict[str, float | None], dict[str, str]]:
        """Return Σ E·N·(3·MACs of the student + MACs of its teacher) over all trainings behind a node."""
        name = TRAIN_MACS.name
        if not node.own_trainings:
            loaded = isinstance(node.step, Loading)
            return {name: None}, {name: "its weights were loaded" if loaded else "it was not trained"}
        total = 0.0
        for one in node.own_trainings:
            step = one.step
            assert isinstance(step, Training)
            parts = [(PASSES, one)]
            if one.teacher and step.distiller.uses_teacher and step.distiller.needs:
                parts.append((1, one.teacher))
            for passes, part in parts:
                macs = known.macs.get(dense(part).identity)
                if macs is None:
                    return {name: None}, {name: f"the multiply-adds of {part.entry.shown} are not known"}
                total += passes * macs * step.recipe.epochs * self._examples
        return {name: total}, {}
