"""A cell becomes a model in training: its student, its method, its tutor."""

from __future__ import annotations

import copy
from dataclasses import replace

from kdbench.methods import Distiller, Method
from kdbench.plan import Cell
from kdbench.plan.controls import RANDOM_TEACHER
from kdbench.runner.session import Fitted, Session
from kdbench.shared_state import kept_settings
from kdbench.training.precision import resolve
from kdbench.training.seeds import derive, reseed
from kdbench.training.trainee import Trainee, Tutor


def trainee_of(cell: Cell, session: Session, teacher: Fitted, tutor: Tutor) -> Trainee:
    """Return a cell's student with fresh weights, ready for its first step.

    One student and seed starts from the same weights whatever the method, so that comparisons are paired.
    """
    reseed("student", cell.entry.name, cell.seed)
    model = session.build(cell.entry)
    with kept_settings():
        looked_at = own_teacher(cell.registered, teacher)
        reseed("method", cell.id)
        distiller = session.distiller(lambda pair: cell.registered.distiller(cell.hyper, pair), cell.pair)
        distiller.prepare(session.networks(Fitted(cell.entry, model, cell.taps), looked_at))
    return Trainee(
        id=cell.id,
        model=model,
        taps=cell.taps,
        distiller=distiller,
        recipe=cell.recipe,
        device=session.device,
        precision=resolve(cell.recipe.precision, session.device),
        tutor=tutor,
        # One order of the classes for all methods of a seed: controls too are paired.
        shuffle_seed=derive(RANDOM_TEACHER, cell.seed) if cell.control_of else None,
        own_copies=cell.registered.fingerprint is not None,
        own_teacher=None if looked_at is teacher else looked_at.model,
    )


def own_teacher(registered: Method, teacher: Fitted) -> Fitted:
    """Return the teacher that a method may look at: a copy, for a user's own method that is handed networks.

    Nothing keeps such a method from changing the teacher, which teaches others too.
    """
    hooks = ("prepare", "after_step", "diagnose")
    looks = any(getattr(registered.distiller, hook) is not getattr(Distiller, hook) for hook in hooks)
    if registered.fingerprint is None or not looks:
        return teacher
    return replace(teacher, model=copy.deepcopy(teacher.model))


class Room:
    """The memory that the students of a cohort may take together.

    Steps follow one another, so of what a step needs the largest counts; what students hold adds up.
    """

    def __init__(self, budget: int | None) -> None:
        """Take the budget in bytes; None is without bounds."""
        self.budget = budget
        self.held = 0
        self.step = 0

    @property
    def taken(self) -> int:
        """What is taken so far."""
        return self.held + self.step

    def admits(self, held: int, step: int) -> bool:
        """Take one more student in if there is room for it; the first one always is."""
        first = self.held == 0
        total = self.held + held + max(self.step, step)
        if not first and self.budget is not None and total > self.budget:
            return False
        self.held += held
        self.step = max(self.step, step)
        return True
