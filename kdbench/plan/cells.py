"""The parts of a plan: teachers, cells, and the cohorts in which cells are trained together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kdbench.methods import Method, Pair, Parameters
from kdbench.models import FeatureShapes, Taps
from kdbench.models.shapes import Shape
from kdbench.suite import Suite
from kdbench.suite.schema import ModelEntry, Recipe, TeacherEntry
from kdbench.targets import USUAL


@dataclass(frozen=True, eq=False)
class TeacherPlan:
    """A teacher to train once or to load: its id, its entry in the suite, its recipe.

    An assistant is a teacher that itself is taught: its ``lesson`` says how.
    """

    id: str
    label: str
    entry: TeacherEntry
    recipe: Recipe
    taps: Taps
    shapes: FeatureShapes
    config: dict[str, Any]
    lesson: Lesson | None = None

    @property
    def labels(self) -> dict[str, Any]:
        """What names it in tables; its id does not hold the label, which is the suite's own."""
        return {"teacher": self.label, "student": None, "method": None, "seed": self.entry.seed}


@dataclass(frozen=True, eq=False)
class Lesson:
    """How an assistant is taught: by which teacher, with which method and hyper-parameters."""

    tutor: TeacherPlan
    registered: Method
    hyper: Parameters
    pair: Pair


@dataclass(frozen=True, eq=False)
class Cell:
    """One point of the matrix. ``refusal`` says why it cannot be run, where it cannot.

    ``tutor`` teaches the student: the cohort's teacher, or the last of a chain of assistants.
    ``deployed`` is the model that is kept at inference, where that is not the student.
    ``control_of`` is the method that the cell repeats with a random teacher, where it is this control.
    """

    id: str
    cohort: str
    teacher: str
    student: str
    method: str
    seed: int
    entry: ModelEntry
    recipe: Recipe
    taps: Taps
    registered: Method
    hyper: Parameters
    pair: Pair
    config: dict[str, Any]
    tutor: TeacherPlan
    deployed: ModelEntry | None = None
    control_of: str | None = None
    refusal: str | None = None

    @property
    def assistants(self) -> list[TeacherPlan]:
        """The chain of assistants between the cohort's teacher and the student, the last first."""
        chain, tutor = [], self.tutor
        while tutor.lesson:
            chain.append(tutor)
            tutor = tutor.lesson.tutor
        return chain

    @property
    def labels(self) -> dict[str, Any]:
        """What names it in tables; of this its id holds the seed alone, so that it can be renamed."""
        return {
            "teacher": self.teacher,
            "student": self.student,
            "method": self.method,
            "seed": self.seed,
            "control_of": self.control_of,
        }

    @property
    def inference(self) -> ModelEntry:
        """The model whose cost is the cell's."""
        return self.deployed or self.entry


@dataclass(frozen=True)
class Cohort:
    """The cells that share dataset, teacher, recipe and seed, and are trained together."""

    id: str
    teacher: TeacherPlan
    seed: int
    recipe: Recipe
    cells: tuple[Cell, ...]

    @property
    def label(self) -> str:
        """The name that progress shows."""
        return f"{self.teacher.label}, seed {self.seed}"


@dataclass(frozen=True)
class Plan:
    """Everything that a suite asks for, resolved and checked.

    ``num_classes`` is that of the dataset's own task, ``tasks`` that of each further one, ``target`` what its
    labels are. ``independent``
    holds, by the id of a teacher, the other training of it that teaches none of its students. ``remarks`` are
    what a person should know of the models, a line each.
    """

    suite: Suite
    input_shape: Shape
    num_classes: int
    teachers: tuple[TeacherPlan, ...]
    cohorts: tuple[Cohort, ...]
    independent: Mapping[str, TeacherPlan] = field(default_factory=dict)
    tasks: Mapping[str, int] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    target: str = USUAL

    @property
    def outputs(self) -> int:
        """How many logits a model gives, of all tasks together."""
        return self.num_classes + sum(self.tasks.values())

    @property
    def idle_teachers(self) -> list[TeacherPlan]:
        """The independent teachers that teach nobody in this plan."""
        busy = {teacher.id for teacher in self.teachers}
        others = {other.id: other for other in self.independent.values()}
        return [other for id, other in others.items() if id not in busy]

    @property
    def loads_weights(self) -> bool:
        """Whether any model of the plan comes with weights from a checkpoint."""
        teachers = (*self.teachers, *self.independent.values())
        entries = (*(teacher.entry for teacher in teachers), *self.suite.students)
        return any(entry.checkpoint is not None for entry in entries)

    @property
    def supporting(self) -> list[TeacherPlan]:
        """What cells rest on but no table shows: independent teachers and the assistants of chains."""
        assistants = {
            assistant.id: assistant
            for cell in self.cells
            if not cell.refusal
            for assistant in cell.assistants
        }
        return [*self.idle_teachers, *assistants.values()]

    @property
    def cells(self) -> list[Cell]:
        """Every cell, cohort by cohort."""
        return [cell for cohort in self.cohorts for cell in cohort.cells]

    def rows(self) -> list[dict[str, Any]]:
        """Return one plain dictionary a cell, as ``kdbench plan --json`` prints."""
        return [
            {
                "id": cell.id,
                **cell.labels,
                "cohort": cell.cohort,
                "status": "skipped" if cell.refusal else "planned",
                "reason": cell.refusal,
            }
            for cell in self.cells
        ]
