"""A user's own files in a plan: what they were when the plan was made, and whether they still are."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from kdbench.code.factory import factory_fingerprint
from kdbench.errors import SharedFault, UserError
from kdbench.plan.nodes import Node, Plan
from kdbench.plan.steps import Loading
from kdbench.store import sha256_of
from kdbench.suite.references import located


def user_files(plan: Plan) -> dict[str, str]:
    """Return the fingerprints that a plan's ids rest on: of code, by its reference, and of checkpoints."""
    return _code(plan) | _checkpoints(plan)


def refuse_edited(plan: Plan) -> None:
    """Raise SharedFault where a file was changed since the plan was made: its ids are of the old one."""
    now: dict[str, str | None] = {name: _fingerprint(name) for name in _code(plan)}
    now |= {path: sha256_of(Path(path)) for path in _checkpoints(plan) if Path(path).is_file()}
    _refuse_difference(user_files(plan), now)


def _fingerprint(name: str) -> str | None:
    """Return the fingerprint of code that was there when the plan was made; None where it is gone."""
    try:
        return factory_fingerprint(name)
    except UserError:
        return None


def refuse_other_plan(plan: Plan, cells: Collection[str], files: Mapping[str, str]) -> None:
    """Raise SharedFault where a plan does not hold the cells and files of one that was made before."""
    _refuse_difference(files, user_files(plan))
    if {cell.id for cell in plan.cells} != set(cells):
        raise SharedFault(
            "the plan is not what it was when the run began: nothing of the change was recorded. Run the "
            "same command again."
        )


def _refuse_difference(then: Mapping[str, str], now: Mapping[str, str | None]) -> None:
    edited = [name for name, source in then.items() if now.get(name) != source]
    if edited:
        raise SharedFault(
            f"{', '.join(edited)}, or code that it imports, was edited while the run was going on: nothing "
            "of the change was recorded. Run the same command again; it goes on with what finished before."
        )


def _code(plan: Plan) -> dict[str, str]:
    """Return the fingerprints of a user's own code in a plan, by the reference that finds it."""
    data = plan.suite.dataset
    known = {
        located(data.name, data.folder): cell.node.config["dataset"].get("source") for cell in plan.cells
    }
    known |= plan.sources
    for node in _nodes(plan):
        model = model_of(node)
        known[located(model["name"], node.entry.folder)] = model.get("source")
        if not isinstance(node.step, Loading):
            known[node.step.method.reference or ""] = node.step.method.fingerprint
    return {name: source for name, source in known.items() if name and source}


def _checkpoints(plan: Plan) -> dict[str, str]:
    return {
        str(node.entry.checkpoint): model_of(node)["checkpoint"]
        for node in _nodes(plan)
        if node.entry.checkpoint and "checkpoint" in model_of(node)
    }


def model_of(node: Node) -> dict[str, Any]:
    """Return what decides the model of a node, as its suite names it."""
    return node.config["student" if node.role == "student" else "model"]


def _nodes(plan: Plan) -> Iterator[Node]:
    """Yield every node of a plan, those of refused cells included."""
    yield from (*plan.teachers, *plan.independent.values())
    for cell in plan.cells:
        yield from (*cell.node.ancestors.values(), cell.node)
