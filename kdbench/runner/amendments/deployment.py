"""What the nodes of a plan deploy: a model, and the structure that compressors gave it, each once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from kdbench.efficiency import ModelJob
from kdbench.methods.restructuring import Decided
from kdbench.models.registry import source_of
from kdbench.plan import Compression, Node, Plan
from kdbench.plan.code import model_of
from kdbench.runner.networks import decided
from kdbench.store import RunDirectory, content_id
from kdbench.suite.references import is_code
from kdbench.suite.schema import ModelEntry


@dataclass(frozen=True)
class Deployed:
    """One network to measure: its model, what compressors decided about it, and where its weights are.

    ``structure`` is what of the decisions makes its cost; a dense network has none, and needs no weights.
    ``args`` are those of the model as its suite writes them.
    """

    label: str
    entry: ModelEntry
    args: Mapping[str, Any]
    parameters: str | None = None
    structure: tuple[Any, ...] = ()
    decisions: tuple[Decided, ...] = ()
    weights: str | None = None

    def job(self) -> ModelJob:
        """Return it as the measuring process takes it."""
        decisions = tuple(decision.as_json() for decision in self.decisions)
        return ModelJob(self.label, self.entry.reference, self.entry.args, None, decisions, self.weights)

    def key(self) -> list[Any]:
        """Return what its cost depends on, as plain values, and the label under which it is kept."""
        names = [self.entry.reference]
        if self.entry.name.startswith("kdbench."):
            names = [value for value in self.entry.args.values() if isinstance(value, str) and is_code(value)]
        sources = [source for name in names if (source := source_of(name))]
        structure = [list(self.structure)] if self.structure else []
        return [self.label, self.entry.name, dict(self.args), *sources, *structure]

    @property
    def identity(self) -> str:
        """What tells networks apart, whatever they are called."""
        return content_id(self.key()[1:])


def dense(node: Node) -> Deployed:
    """Return the network of a node as it is before any compressor."""
    args = node.config.get("network", node.entry.model_dump())["args"]
    return Deployed(node.entry.shown, node.entry, args, model_of(node).get("parameters"))


class Deployments:
    """What a teacher and its students deploy, by label, and which of it each node is."""

    def __init__(self, plan: Plan, teacher: Node, run: RunDirectory | None = None) -> None:
        """Take the finished nodes of a run; without one, those that the plan promises."""
        self.by_label: dict[str, Deployed] = {}
        self._label: dict[str, str] = {}
        for node in _compared_with(plan, teacher):
            deployed: Deployed | None = dense(node)
            if node.compressions:
                deployed = _compressed(node, run) if run else replace(dense(node), structure=(node.id,))
            if deployed:
                self._add(node, deployed)

    def of(self, node: Node) -> Deployed:
        """Return what a finished node deploys."""
        return self.by_label[self._label[node.id]]

    def _add(self, node: Node, deployed: Deployed) -> None:
        taken = self.by_label.get(deployed.label)
        # A dense network goes by the name of its model; what else would have that name is told apart.
        if deployed.structure or (taken and taken.identity != deployed.identity):
            deployed = replace(deployed, label=f"{deployed.label} [{deployed.identity}]")
        self._label[node.id] = deployed.label
        self.by_label.setdefault(deployed.label, deployed)


def _compared_with(plan: Plan, teacher: Node) -> Iterator[Node]:
    """Yield a teacher, and the nodes of its students that can be made."""
    yield teacher
    yield from (cell.node for cell in plan.cells if cell.node.origin is teacher and not cell.refusal)


def _compressed(node: Node, run: RunDirectory) -> Deployed | None:
    """Return what a compressed node deploys, None where it was not made.

    Raises SharedFault where a file is not what was recorded.
    """
    record = run.record(node.id)
    name = record.weights() if record and record.status == "ok" else None
    if record is None or name is None:
        return None
    decisions = tuple(decided(made, run) for made in node.compressions)
    steps = [made.step for made in node.compressions if isinstance(made.step, Compression)]
    structure = tuple(
        [
            step.method.name,
            step.method.fingerprint,
            step.compressor.structure(step.hyper, decision.decision),
        ]
        for step, decision in zip(steps, decisions, strict=True)
    )
    # A published run has none, and need not be measured again.
    held = run.holds(record, name)
    weights = run.recorded_file(record, name) if held else run.inside(record.home, record.id, name)
    names = ", ".join(
        made.step.method.name for made in node.compressions if isinstance(made.step, Compression)
    )
    own = dense(node)
    return replace(
        own,
        label=f"{own.label}: {names}",
        structure=structure,
        decisions=decisions,
        weights=str(weights.absolute()),
    )
