"""A node becomes a model in training: its network, its method, its tutor."""

from __future__ import annotations

import copy
from dataclasses import replace

from kdbench.methods import Distiller, Method
from kdbench.models import feature_shapes
from kdbench.plan import Node, Training
from kdbench.plan.making import RANDOM_TEACHER
from kdbench.runner.networks import Network, taps_of
from kdbench.runner.session import Fitted, Session
from kdbench.shared_state import kept_settings
from kdbench.training.precision import resolve
from kdbench.training.seeds import derive, reseed
from kdbench.training.trainee import Trainee, Tutor


def first_network(node: Node, session: Session) -> Network:
    """Return the network of a node that starts from no other: fresh weights, or those of its checkpoint.

    One student and seed starts from the same weights whatever the method, so that comparisons are paired.
    """
    reseed(*node.weights)
    return Network(session.build(node.entry))


def trainee_of(
    node: Node, session: Session, network: Network, teacher: Fitted | None, tutor: Tutor | None
) -> Trainee:
    """Return a network ready for the first step of its training; ``teacher`` None is to train alone."""
    step = node.step
    assert isinstance(step, Training)
    model = network.model
    own = Fitted(node.entry, model, taps_of(node, model, session) if node.start else node.sketch.taps)
    pair = step.pair
    if node.start and node.start.compressions:
        # What a compressor left of the features is known only now.
        shapes = feature_shapes(model, own.taps, session.data.inputs)
        pair = replace(pair, student_shapes=replace(shapes, logits=pair.student_shapes.logits))
    with kept_settings():
        looked_at = own_teacher(step.method, teacher or own)
        reseed("method", node.id)
        distiller = session.distiller(lambda pair: step.distiller(step.hyper, pair), pair)
        distiller.prepare(session.networks(own, looked_at))
    return Trainee(
        id=node.id,
        model=model,
        taps=own.taps,
        distiller=distiller,
        recipe=step.recipe,
        device=session.device,
        precision=resolve(step.recipe.precision, session.device),
        tutor=tutor,
        # One order of the classes for all methods of a seed: controls too are paired.
        shuffle_seed=derive(RANDOM_TEACHER, node.seed) if step.shuffled else None,
        own_copies=step.method.fingerprint is not None,
        own_teacher=looked_at.model if teacher and looked_at is not teacher else None,
        compressors=network.compressors,
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
