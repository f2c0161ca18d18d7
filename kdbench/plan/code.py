"""A user's own files in a plan: what they were when the plan was made, and whether they still are."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from kdbench.code.factory import factory_fingerprint
from kdbench.errors import SharedFault, UserError
from kdbench.plan.cells import Plan, TeacherPlan
from kdbench.store import sha256_of
from kdbench.suite.references import located
from kdbench.suite.schema import ModelEntry


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
    known = {located(data.name, data.folder): cell.config["dataset"].get("source") for cell in plan.cells}
    known |= {entry.reference: config.get("source") for entry, config in _models(plan)}
    known |= {cell.registered.reference or "": cell.registered.fingerprint for cell in plan.cells}
    return {name: source for name, source in known.items() if name and source}


def _checkpoints(plan: Plan) -> dict[str, str]:
    return {
        str(entry.checkpoint): config["checkpoint"]
        for entry, config in _models(plan)
        if entry.checkpoint and "checkpoint" in config
    }


def _models(plan: Plan) -> Iterator[tuple[ModelEntry, dict[str, Any]]]:
    """Yield every model of a plan with what decides it."""
    for cell in plan.cells:
        yield cell.entry, cell.config["student"]
        yield from _chain(cell.tutor)
    for teacher in (*plan.teachers, *plan.independent.values()):
        yield from _chain(teacher)


def _chain(teacher: TeacherPlan | None) -> Iterator[tuple[ModelEntry, dict[str, Any]]]:
    while teacher:
        yield teacher.entry, teacher.config["model"]
        teacher = teacher.lesson.tutor if teacher.lesson else None
