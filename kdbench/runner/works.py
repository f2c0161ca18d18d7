"""Units of work: what can be made apart from the rest of a run, here or in another process.

An executor carries works out. It is one class in a file of ``kdbench/runner/executors`` (or of a user's own),
registered with ``@executor``; what comes out depends on no executor, but in its last bits on the number of
threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from kdbench.code.foreign import foreign
from kdbench.plan import Plan, make_plan
from kdbench.plan.code import refuse_other_plan, user_files
from kdbench.registry import Registry
from kdbench.runner.events import Event, Relay, Tell
from kdbench.runner.workshop import Setting, Workshop
from kdbench.suite import Suite


@dataclass
class Site:
    """What all works of a run share: the suite, which another process plans anew, and what it must come to.

    ``threads`` are those of one process. ``workshop`` is the one of this process; it is not sent to another.
    """

    suite: Suite
    setting: Setting
    threads: int | None
    nodes: frozenset[str]
    files: dict[str, str]
    workshop: Workshop | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, workshop: Workshop) -> Site:
        """Return the site of a workshop that is open in this process."""
        plan = workshop.plan
        nodes = frozenset(cell.id for cell in plan.cells)
        return cls(plan.suite, workshop.setting, plan.suite.threads, nodes, user_files(plan), workshop)

    def shared_by(self, processes: int, threads: int) -> Site:
        """Return the site of each of several processes, which share the memory and so many threads."""
        own = self.threads or max(1, threads // processes)
        return replace(self, setting=self.setting.shared_by(processes), threads=own, workshop=None)

    def open(self, tell: Tell) -> Workshop:
        """Return the workshop of this process, which it opens at the first call.

        Raises SharedFault where the plan is not what it was when the run began.
        """
        if self.workshop is None:
            plan = make_plan(self.suite, self.setting.data_root)
            refuse_other_plan(plan, self.nodes, self.files)
            self.workshop = Workshop(plan, self.setting, Relay(tell))
        return self.workshop


@dataclass(frozen=True)
class Work:
    """The cohorts of one teacher and seed, in the order in which their students begin from one another.

    ``nodes`` are the ids of what is to be made, ``epochs`` how many there are of all its cohorts.
    """

    id: str
    label: str
    nodes: tuple[str, ...]
    epochs: int
    site: Site

    def carry_out(self, tell: Tell) -> None:
        """Make its nodes in this process, one cohort after the other; what is finished is not made again."""
        workshop = self.site.open(tell)
        if isinstance(workshop.progress, Relay):
            workshop.progress.turn_to(self.id)
        for cohort in workshop.plan.cohorts:
            if any(cell.id in self.nodes for cell in cohort.cells) or any(
                node.id in self.nodes for node in cohort.links
            ):
                with foreign(f"a model or a method of {cohort.label}"):
                    workshop.make(cohort)
        tell(Event("done", self.id))


class Executor(Protocol):
    """Carries out works, at once or one after the other."""

    def run(self, works: Sequence[Work], tell: Tell) -> None:
        """Carry all of them out, and pass on what they tell; raises what ends the run."""


@dataclass(frozen=True)
class RegisteredExecutor:
    """A registered executor: its name, what it is, and what makes one of a number of jobs."""

    name: str
    title: str
    make: Callable[[int], Executor]


def _fault(member: Any) -> str | None:
    return None if callable(getattr(member, "run", None)) else "lacks the method run(works, tell)"


EXECUTORS: Registry[RegisteredExecutor] = Registry("executor", home="kdbench.runner.executors", check=_fault)


def executor(name: str, *, title: str) -> Callable[[type], type]:
    """Register a class as the executor ``name``; it is made with the number of jobs."""

    def register(member: type) -> type:
        EXECUTORS.add(name, RegisteredExecutor(name, title, member), member)
        return member

    return register


def works_of(plan: Plan, site: Site) -> list[Work]:
    """Return the works of what a run has no record of yet, in the order of the plan."""
    run = site.setting.directory
    groups: dict[tuple[str, int], list[Any]] = {}
    for cohort in plan.cohorts:
        groups.setdefault((cohort.teacher.id, cohort.seed), []).append(cohort)
    works = []
    for cohorts in groups.values():
        asked = [cell.id for cohort in cohorts for cell in cohort.cells]
        nodes = tuple(id for id in asked if run.record(id) is None)
        links = tuple(link.id for cohort in cohorts for link in cohort.links)
        if nodes:
            epochs = sum(cohort.recipe.epochs for cohort in cohorts)
            works.append(Work(cohorts[0].id, cohorts[0].label, (*nodes, *links), epochs, site))
    return works
