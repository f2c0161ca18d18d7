"""How long a plan will take here, and in how much memory: its parts are timed, students built and weighed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kdbench.data import load_entry
from kdbench.plan import Cohort, Plan
from kdbench.progress import Progress, Steps
from kdbench.runner.assembly import Room, trainee_of
from kdbench.runner.clock import Clock
from kdbench.runner.networks import Network
from kdbench.runner.phases import Phase, phases
from kdbench.runner.session import Device, Fitted, Session, resolve_device
from kdbench.suite.schema import ModelEntry
from kdbench.training.footprint import held_bytes, step_bytes
from kdbench.training.threads import computing_with
from kdbench.training.trainee import Tutor

CONDITIONS = (
    "with one process, nothing finished before and a machine as busy as now; reading the data, what methods "
    "add to a step, and the report come on top"
)


@dataclass(frozen=True)
class Estimate:
    """How long each phase of a plan takes here, and the memory of its cohorts, by their label."""

    phases: tuple[Phase, ...]
    cohorts: dict[str, CohortMemory]

    @property
    def seconds(self) -> float:
        """How long all phases take together."""
        return sum(phase.seconds for phase in self.phases)

    def lines(self) -> Iterator[str]:
        """Yield a line for each phase, with what it rests on, and one for all of them."""
        yield from (phase.line() for phase in self.phases)
        yield f"All of it takes about {self.seconds / 60:.1f} minutes on this machine, {CONDITIONS}."


@dataclass(frozen=True)
class CohortMemory:
    """How many students each part of a cohort has that trains at once, and the bytes of the largest part."""

    parts: tuple[int, ...]
    bytes: int


def estimate(
    plan: Plan,
    data_root: Path | None = None,
    device: Device = "auto",
    memory_budget: int | None = None,
    progress: Progress | None = None,
) -> Estimate:
    """Return about how long a plan takes on this machine (see `phases`), and how its cohorts are split.

    A teacher counts even where it exists already. The memory is that of the real students and adapters, of
    the first seed, beside a teacher with random weights.
    """
    data = load_entry(plan.suite.dataset, root=data_root, memory_budget=memory_budget, progress=progress)
    session = Session(plan.suite.dataset, data, resolve_device(device))
    clock = Clock(plan, session)
    trained = {entry.shown: entry for entry in _trained(plan)}
    with computing_with(plan.suite.threads):
        with Steps(progress or Progress(), "timing models", len(trained), "model") as steps:
            for entry in trained.values():
                clock.step(entry, plan.suite.recipe.batch_size)
                steps.step(entry.shown)
        timed = tuple(phases(plan, session, clock))
    firsts = [cohort for cohort in plan.cohorts if cohort.seed == plan.suite.seeds[0]]
    taken: dict[str, CohortMemory] = {}
    for cohort in firsts:
        # Cohorts of one teacher and seed follow one another where chains begin from what others train.
        before = taken.get(cohort.label, CohortMemory((), 0))
        own = _memory(cohort, session, memory_budget)
        taken[cohort.label] = CohortMemory(before.parts + own.parts, max(before.bytes, own.bytes))
    return Estimate(timed, taken)


def _trained(plan: Plan) -> Iterator[ModelEntry]:
    """Yield the models that train; one that is loaded may not be able to."""
    return (node.entry for node in plan.nodes.values() if node.recipe)


def _memory(cohort: Cohort, session: Session, budget: int | None) -> CohortMemory:
    x, _, _ = next(session.train.ordered(cohort.recipe.batch_size))
    teachers: dict[str, Fitted] = {}
    steps: dict[str, int] = {}
    rooms, counts = [Room(budget)], [0]
    for node in cohort.nodes:
        if not node.recipe or node.teacher is None:
            continue
        if node.teacher.id not in teachers:
            entry = node.teacher.entry
            teachers[node.teacher.id] = Fitted(entry, session.build(entry), node.teacher.sketch.taps)
        teacher = teachers[node.teacher.id]
        network = Network(session.build(node.entry))
        trainee = trainee_of(node, session, network, teacher, Tutor(teacher.model, teacher.taps))
        if node.entry.shown not in steps:
            steps[node.entry.shown] = step_bytes(trainee.model, x)
        need = held_bytes(trainee), steps[node.entry.shown]
        if not rooms[-1].admits(*need):
            rooms.append(Room(budget))
            counts.append(0)
            rooms[-1].admits(*need)
        counts[-1] += 1
        trainee.reader.close()
    return CohortMemory(tuple(filter(None, counts)), max(room.taken for room in rooms))
