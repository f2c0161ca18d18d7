"""Finished nodes as what is measured: the network that each deploys, with its weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kdbench.efficiency import ModelJob
from kdbench.errors import UserError
from kdbench.exporting.cell import find_cell, outputs_of, recipe_of, weights_file
from kdbench.inputs import InputSpec
from kdbench.store.record import HOMES
from kdbench.suite import folder_of_paths


def is_node(name: str) -> bool:
    """Return whether the name of a model is the folder of a node, ``RUN/nodes/ID``."""
    return Path(name).parent.name in HOMES


def node_jobs(nodes: Sequence[str]) -> tuple[dict[str, ModelJob], InputSpec, int]:
    """Return what to measure of each node by its name, and what they are shown and how many logits they give.

    Raises UserError for a node that has no network, and for nodes of runs whose inputs or classes differ.
    """
    jobs: dict[str, ModelJob] = {}
    shapes: dict[str, tuple[InputSpec, int]] = {}
    for name in nodes:
        run, id = find_cell(name)
        record = run.record(id)
        if record is None or record.status != "ok":
            raise UserError(f"node '{id}' of {run.path} is not finished or has failed: it has no network.")
        entry, decisions = recipe_of(run, record, folder_of_paths(run.path))
        label = f"{id} ({record.student or record.teacher}{f' by {record.method}' if record.method else ''})"
        steps = tuple(decision.as_json() for decision in decisions)
        weights = str(weights_file(run, record).absolute())
        jobs[name] = ModelJob(label, entry.reference, entry.args, None, steps, weights)
        shapes[name] = InputSpec.recorded(run.manifest()), outputs_of(run.manifest())
    first, *others = shapes
    for name in others:
        if shapes[name] != shapes[first]:
            raise UserError(
                f"{name} and {first} take other inputs or give other classes: measure them apart."
            )
    return jobs, *shapes[first]
