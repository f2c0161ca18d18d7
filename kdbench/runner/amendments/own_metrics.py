"""The metrics of a user's own that a suite names, for records that do not hold them as they are now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kdbench.heads import name_in
from kdbench.metrics import catalogue
from kdbench.plan import Node, Plan
from kdbench.progress import Progress, Steps
from kdbench.runner.amendments.amendment import Due
from kdbench.runner.predictions import ByHead, read_labels, read_predictions
from kdbench.runner.scores import BEST, Scores, score_predictions
from kdbench.store import PREDICTIONS, Record, RunDirectory, content_id
from kdbench.targets import find_target

NOT_KEPT = "the logits were not kept"


def own_metrics_key(plan: Plan) -> str | None:
    """Return what the values of a suite's own metrics rest on: their code; None where it names none."""
    sources = {name: plan.sources[name] for name in plan.own_metrics}
    return content_id(sources) if sources else None


class OwnMetrics:
    """The amendment: own metrics, scored from saved logits."""

    name = "metrics"

    def __init__(self, plan: Plan, run: RunDirectory, progress: Progress) -> None:
        """Take the plan, whose suite names metrics or does not."""
        self._own = plan.own_metrics
        self._key = own_metrics_key(plan)
        self._run = run
        self._heads = list(plan.outputs)
        self._progress = progress
        self._target = find_target(plan.target)
        usual = catalogue(self._target)
        own = [name for name in catalogue(self._target, self._own) if name not in usual]
        self._names = {
            name_in(head, name + ending) for head in self._heads for name in own for ending in ("", BEST)
        }

    def owns(self, name: str) -> bool:
        """Return whether a column is of an own metric."""
        return name in self._names

    def key(self, node: Node) -> str | None:
        """Return the id of the code of all of them."""
        return self._key

    def scored(self, due: Sequence[Due]) -> Iterator[tuple[Record, Scores]]:
        """Yield their values."""
        with Steps(self._progress, "scoring own metrics", len(due), "record") as steps:
            for _, record in due:
                yield record, self._scores(record)
                steps.step()

    def _scores(self, record: Record) -> Scores:
        teacher = self._run.record(record.origin) if record.origin else None
        mine, theirs = self._saved(record), self._saved(teacher)
        if mine is None or (teacher and theirs is None):
            return Scores(dict.fromkeys(self._names), dict.fromkeys(self._names, NOT_KEPT))
        scores = score_predictions(
            mine,
            read_labels(self._run, record, self._heads),
            theirs,
            without_best=NOT_KEPT,
            target=self._target,
            own=self._own,
        )
        values = {name: value for name, value in scores.metrics.items() if name in self._names}
        reasons = {name: text for name, text in scores.reasons.items() if name in self._names}
        return Scores(values, reasons)

    def _saved(self, record: Record | None) -> ByHead | None:
        """Return the logits beside a record, None where they were not kept."""
        names = [name_in(head, PREDICTIONS) for head in self._heads]
        if record is None or not all(self._run.holds(record, name) for name in names):
            return None
        return read_predictions(self._run, record, self._heads)
