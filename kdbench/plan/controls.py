"""The controls that a suite asks for: a teacher that teaches nobody, and a teacher that knows nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from kdbench.errors import UserError
from kdbench.plan.making import Made
from kdbench.plan.nodes import Node, Plan
from kdbench.plan.steps import Training
from kdbench.suite import Suite
from kdbench.suite.schema import TeacherEntry


def independents(
    suite: Suite, teachers: Sequence[Node], node_of: Callable[[TeacherEntry], Node]
) -> dict[str, Node]:
    """Return the other training of each teacher, by the teacher's id; one that teaches already is itself.

    A teacher that is loaded from a checkpoint has one only where the suite names the checkpoint of it.
    Raises UserError where the two would be the same weights, or one checkpoint is to serve several teachers.
    """
    asked = suite.controls.independent_teacher
    if asked is None:
        return {}
    if asked.checkpoint and len(teachers) > 1:
        raise UserError(
            f"controls.independent_teacher: one checkpoint cannot be the second training of all "
            f"{len(teachers)} teachers: give each a suite of its own."
        )
    known = {teacher.id: teacher for teacher in teachers}
    others = {}
    for teacher in teachers:
        if teacher.entry.checkpoint and not asked.checkpoint:
            continue
        seed = teacher.seed + 1 if asked.seed is None else asked.seed
        changed = {"checkpoint": asked.checkpoint} if asked.checkpoint else {"seed": seed}
        assert isinstance(teacher.entry, TeacherEntry)
        other = node_of(teacher.entry.model_copy(update=changed))
        if other.id == teacher.id:
            same = "the checkpoint" if asked.checkpoint else f"seed {seed}"
            raise UserError(
                f"controls.independent_teacher: {same} is that of teacher '{teacher.label}'; give another."
            )
        others[teacher.id] = known.setdefault(other.id, other)
    return others


def takes_random_teacher(made: Made) -> bool:
    """Return whether a student can be repeated with a teacher that gives nothing but shuffled logits."""
    trainings = [node for node in made.node.own_trainings if node.role == "student"]
    taught = [node for node in trainings if _is_taught(node)]
    return not made.refusal and bool(taught) and all(map(_reads_logits_only, taught))


def _is_taught(node: Node) -> bool:
    return isinstance(node.step, Training) and node.step.distiller.uses_teacher


def _reads_logits_only(node: Node) -> bool:
    step = node.step
    if not isinstance(step, Training):
        return False
    return step.distiller.reads_logits_only(step.hyper, step.pair.student)


def control_label(method: str) -> str:
    """Return how tables name a method where a random teacher takes the place of its teacher."""
    return f"{method} (random teacher)"


def without_random_teacher(plan: Plan) -> list[str]:
    """Return the methods that learn from a teacher but have no control with a random one."""
    if not plan.suite.controls.random_teacher:
        return []
    repeated = {cell.control_of for cell in plan.cells}
    taught = (
        cell.method
        for cell in plan.cells
        if not cell.control_of and not cell.refusal and any(map(_is_taught, cell.node.own_trainings))
    )
    return list(dict.fromkeys(method for method in taught if method not in repeated))


def describe_controls(plan: Plan) -> Iterator[str]:
    """Yield a line for each control of a plan that its cells do not show."""
    for teacher in plan.teachers:
        other = plan.independent.get(teacher.id)
        if other:
            which = f"checkpoint {other.entry.checkpoint}" if other.entry.checkpoint else f"seed {other.seed}"
            yield f"Independent of teacher {teacher.label}: {which}, which teaches none of its students."
        elif plan.suite.controls.independent_teacher:
            yield f"No independent teacher for {teacher.label}, which comes from a checkpoint."
    without = without_random_teacher(plan)
    if without:
        yield f"No random teacher where more than logits is taken: {', '.join(without)}."


def refuse_idle(plan: Plan) -> None:
    """Raise UserError where a random teacher is asked for and no method could learn from it."""
    if plan.suite.controls.random_teacher and not any(cell.control_of for cell in plan.cells):
        raise UserError(
            "controls.random_teacher: no method of the suite learns from logits alone; add one, such as kd."
        )
