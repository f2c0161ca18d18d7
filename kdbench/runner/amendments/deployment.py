"""What the nodes of a plan deploy: a model, and the structure that compressors gave it, each once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kdbench.efficiency import ModelJob
from kdbench.methods.restructuring import Decided
from kdbench.models.registry import source_of
from kdbench.plan import Compression, Node, Plan
from kdbench.plan.code import model_of
from kdbench.runner.networks import decided
from kdbench.store import RunDirectory
from kdbench.suite.references import is_code
from kdbench.suite.schema import ModelEntry


@dataclass(frozen=True)
class Deployed:
    """One network to measure: its model, what compressors decided about it, and where its weights are.

    ``structure`` is what of the decisions makes its cost; a dense network has none, and needs no weights.
    """

    label: str
    entry: ModelEntry
    parameters: str | None = None
    structure: tuple[Any, ...] = ()
    decisions: tuple[Decided, ...] = ()
    weights: str | None = None

    def job(self) -> ModelJob:
        """Return it as the measuring process takes it."""
        decisions = tuple(decision.as_json() for decision in self.decisions)
        return ModelJob(self.label, self.entry.reference, self.entry.args, None, decisions, self.weights)

    def key(self) -> list[Any]:
        """Return what its cost depends on, as plain values."""
        names = [self.entry.reference]
        if self.entry.name.startswith("kdbench."):
            names = [value for value in self.entry.args.values() if isinstance(value, str) and is_code(value)]
        sources = [source for name in names if (source := source_of(name))]
        structure = [list(self.structure)] if self.structure else []
        return [self.label, self.entry.name, self.entry.args, *sources, *structure]


class Deployments:
    """What a teacher and its students deploy, by label, and which of it each node is."""

    def __init__(self, plan: Plan, teacher: Node, run: RunDirectory | None = None) -> None:
        """Take the finished nodes of a run; without one, those that the plan promises."""
        self.by_label: dict[str, Deployed] = {}
        self._label: dict[str, str] = {}
        names = {cell.id: f"{cell.student} by {cell.method}" for cell in plan.cells}
        for node in _compared_with(plan, teacher):
            if not node.compressions:
                self._add(node, Deployed(node.entry.shown, node.entry, model_of(node).get("parameters")))
            elif run is None:
                self._add(node, Deployed(names[node.id], node.entry, structure=(node.id,)))
            elif (deployed := _compressed(node, names[node.id], run)) is not None:
                self._add(node, deployed)

    def of(self, node: Node) -> Deployed | None:
        """Return what a node deploys; None where it was not made."""
        return self.by_label.get(self._label.get(node.id, ""))

    def _add(self, node: Node, deployed: Deployed) -> None:
        alike = next(
            (other.label for other in self.by_label.values() if _alike(other, deployed)), deployed.label
        )
        self._label[node.id] = alike
        self.by_label.setdefault(alike, deployed)


def _alike(first: Deployed, second: Deployed) -> bool:
    return (first.entry.shown, first.structure) == (second.entry.shown, second.structure)


def _compared_with(plan: Plan, teacher: Node) -> Iterator[Node]:
    """Yield a teacher, and the nodes of its students that can be made."""
    yield teacher
    yield from (cell.node for cell in plan.cells if cell.node.origin is teacher and not cell.refusal)


def _compressed(node: Node, label: str, run: RunDirectory) -> Deployed | None:
    record = run.record(node.id)
    weights = record.weights() if record and record.status == "ok" else None
    if record is None or weights is None:
        return None
    decisions = tuple(decided(made, run) for made in node.compressions)
    structure = tuple(
        [decision.method, made.step.compressor.structure(made.step.hyper, decision.decision)]
        for made, decision in zip(node.compressions, decisions, strict=True)
        if isinstance(made.step, Compression)
    )
    path = run.path / record.place / weights
    return Deployed(label, node.entry, None, structure, decisions, str(path.absolute()))
