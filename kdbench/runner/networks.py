"""The network of a node: what trains, what is deployed, and how both are had again from what was recorded."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from kdbench.methods.compressor import Compressor
from kdbench.methods.restructuring import Decided, finished, finishes, restructured
from kdbench.models import Taps, find_taps, load_checkpoint
from kdbench.plan import Compression, Node
from kdbench.runner.predictions import ByHead
from kdbench.runner.session import Fitted, Session
from kdbench.store import DECISION, Record, RunDirectory, read_json
from kdbench.training.trainee import Tutor


@dataclass(frozen=True)
class Network:
    """A network that can train, and the compressors that made its structure, which hold it meanwhile."""

    model: nn.Module
    compressors: tuple[Compressor, ...] = ()

    def deployed(self, weights: Mapping[str, Tensor] | None = None) -> nn.Module:
        """Return what is deployed: with its own weights, or in a network of its own with others."""
        if weights is None and not finishes(self.compressors):
            return self.model
        model = copy.deepcopy(self.model)
        if weights is not None:
            model.load_state_dict(weights)
        return finished(model, self.compressors)


@dataclass
class Ready:
    """A finished node that others learn from: its network in evaluation mode on the device, its logits."""

    node: Node
    network: Network
    predictions: ByHead

    def fitted(self) -> Fitted:
        """Return its model and taps as methods see them."""
        return Fitted(self.node.entry, self.network.model, self.node.sketch.taps)

    def tutor(self) -> Tutor:
        """Return it as the cohort engine takes it."""
        return Tutor(self.network.model, self.node.sketch.taps)


def network_of(node: Node, record: Record, run: RunDirectory, session: Session) -> Network:
    """Return the network of a finished node again: built, decided, with its weights.

    Raises SharedFault where a file is not what was recorded.
    """
    model = session.build(node.entry.model_copy(update={"checkpoint": None}))
    model, compressors = restructured(model, decisions_of(node, run))
    name = record.weights()
    load_checkpoint(model, run.recorded_file(record, name or "weights.safetensors"))
    return Network(model.to(session.device), compressors)


def decisions_of(node: Node, run: RunDirectory) -> list[Decided]:
    """Return what the compressors in a node's lineage decided, in order; a run holds all of these nodes."""
    return [decided(made, run) for made in node.compressions]


def decided(node: Node, run: RunDirectory) -> Decided:
    """Return what a compressor decided, as its node's record keeps it."""
    record, step = run.record(node.id), node.step
    assert record is not None and isinstance(step, Compression)
    decision = read_json(run.recorded_file(record, DECISION))
    return Decided(step.method.reference or step.method.name, step.hyper.model_dump(mode="json"), decision)


def taps_of(node: Node, model: nn.Module, session: Session) -> Taps:
    """Return where a network is tapped: as the model before any step, also where a step has wrapped that.

    Where a step has changed the modules themselves, the taps are found anew.
    """
    names = [name for name, _ in model.named_modules()]

    def within(tap: str) -> str | None:
        return next((name for name in names if name == tap or name.endswith(f".{tap}")), None)

    taps = node.sketch.taps
    stages, pooled = [within(tap) for tap in taps.stages], taps.pooled and within(taps.pooled)
    if all(stages) and bool(pooled) == bool(taps.pooled):
        return Taps(tuple(filter(None, stages)), pooled)
    return find_taps(model, session.data.inputs)
