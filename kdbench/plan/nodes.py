"""The parts of a plan: nodes, the cells that a suite asks to compare, and the cohorts that train together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kdbench.heads import PRIMARY
from kdbench.inputs import InputSpec
from kdbench.models.index import Sketch
from kdbench.plan.steps import Compression, Step, Training
from kdbench.store.record import Role
from kdbench.suite import Suite
from kdbench.suite.references import located
from kdbench.suite.schema import ModelEntry, Recipe
from kdbench.targets import USUAL

# What a seed is for, see `kdbench.training.seeds.derive`.
Purpose = tuple[str | int, ...]


@dataclass(frozen=True, eq=False)
class Node:
    """One network of a plan, and the step that makes it.

    Attributes:
        id: the hash of ``config``.
        role: what it is to the suite; a student that others start from is a student all the same.
        label: what messages call it.
        entry: the model that is built before any step.
        sketch: its taps and shapes.
        step: what makes the node.
        seed: the seed of its training.
        config: everything that decides the result.
        start: the node whose weights it begins from; None for fresh weights, or those of a file.
        teacher: the node that teaches it.
        origin: the teacher that it is compared with; None for a teacher itself.
    """

    id: str
    role: Role
    label: str
    entry: ModelEntry
    sketch: Sketch
    step: Step
    seed: int
    config: dict[str, Any]
    start: Node | None = None
    teacher: Node | None = None
    origin: Node | None = None

    @property
    def labels(self) -> dict[str, Any]:
        """What names it where it is no cell; its id does not hold this, which is the suite's own."""
        role: Role = "link" if self.role == "student" else self.role
        return labels(role, self.label, None, None, self.seed)

    @property
    def weights(self) -> Purpose:
        """The purpose of the seed of its first weights: the same for a student whatever the method.

        Generations of one model, which teach one another, start from different weights.
        """
        if self.role == "assistant":
            return "assistant", self.id
        name = self.entry.name if self.role == "teacher" else self.config["student"]["name"]
        return self.role, name, self.seed

    @property
    def batches(self) -> Purpose:
        """The purpose of the seed of the order of its batches."""
        return "cohort" if self.role == "student" else "teacher", self.seed

    @property
    def lineage(self) -> tuple[Node, ...]:
        """The nodes that it began from, the first of them first, and itself."""
        return (*(self.start.lineage if self.start else ()), self)

    @property
    def compressions(self) -> tuple[Node, ...]:
        """The nodes of its lineage whose step changed the network, in order."""
        return tuple(node for node in self.lineage if isinstance(node.step, Compression))

    @property
    def ancestors(self) -> dict[str, Node]:
        """Every node that it was made from, by id, those that come first in front."""
        before = [node for node in (self.start, self.teacher) if node]
        return {key: node for one in before for key, node in (one.ancestors | {one.id: one}).items()}

    @property
    def own_trainings(self) -> tuple[Node, ...]:
        """Itself and what it was made from, as far as that trains and is not its teacher's own making."""
        apart = {*self.origin.ancestors, self.origin.id} if self.origin else set()
        family = (self.ancestors | {self.id: self}).values()
        return tuple(node for node in family if isinstance(node.step, Training) and node.id not in apart)

    @property
    def recipe(self) -> Recipe | None:
        """The recipe that it trains by."""
        return self.step.recipe if isinstance(self.step, Training) else None

    @property
    def depth(self) -> int:
        """How many trainings of students its lineage has before its own step."""
        return sum(node.role != "teacher" and node.recipe is not None for node in self.lineage[:-1])


def labels(
    role: Role,
    teacher: str,
    student: str | None,
    method: str | None,
    seed: int,
    control_of: str | None = None,
) -> dict[str, Any]:
    """Return the labels of a record."""
    return {
        "role": role,
        "teacher": teacher,
        "student": student,
        "method": method,
        "seed": seed,
        "control_of": control_of,
    }


@dataclass(frozen=True, eq=False)
class Cell:
    """One point of the matrix: a node that the suite asked to compare, under its names.

    ``control_of`` is the method that it repeats with a random teacher, where it is this control; ``refusal``
    says why it cannot be made, where it cannot.
    """

    node: Node
    cohort: str
    teacher: str
    student: str
    method: str
    control_of: str | None = None
    refusal: str | None = None

    @property
    def id(self) -> str:
        """The id of its node."""
        return self.node.id

    @property
    def seed(self) -> int:
        """The seed of its node."""
        return self.node.seed

    @property
    def labels(self) -> dict[str, Any]:
        """What names it in tables; of this its id holds the seed alone, so that it can be renamed."""
        return labels("student", self.teacher, self.student, self.method, self.seed, self.control_of)


@dataclass(frozen=True)
class Cohort:
    """The cells that share dataset, teacher, recipe and seed, and are made together.

    ``links`` are nodes that are made with them since chains start from them, although no cell asks for them.
    """

    id: str
    teacher: Node
    seed: int
    recipe: Recipe
    cells: tuple[Cell, ...]
    links: tuple[Node, ...] = ()

    @property
    def label(self) -> str:
        """The name that progress shows."""
        return f"{self.teacher.label}, seed {self.seed}"

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Every node that is to be made, what others start from first."""
        asked = [cell.node for cell in self.cells if not cell.refusal]
        return tuple(sorted((*self.links, *asked), key=lambda node: len(node.lineage)))


@dataclass(frozen=True)
class Plan:
    """Everything that a suite asks for, resolved and checked.

    ``num_classes`` is that of the dataset's own labels, ``heads`` that of each further head. ``independent``
    holds, by the id of a teacher, the other training of it that teaches none of its students. ``remarks`` are
    what a person should know of the models, a line each; ``target`` is what the dataset's labels are,
    ``sources`` the fingerprints of metrics and corruptions of a user's own.
    """

    suite: Suite
    inputs: InputSpec
    num_classes: int
    teachers: tuple[Node, ...]
    cohorts: tuple[Cohort, ...]
    independent: Mapping[str, Node] = field(default_factory=dict)
    heads: Mapping[str, int] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    target: str = USUAL
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def outputs(self) -> dict[str, int]:
        """How many logits each head of a model gives."""
        return {PRIMARY: self.num_classes, **self.heads}

    @property
    def own_metrics(self) -> tuple[str, ...]:
        """The metrics of a user's own that the suite names, as they are found."""
        return tuple(located(name, self.suite.dataset.folder) for name in self.suite.metrics)

    @property
    def idle_teachers(self) -> list[Node]:
        """The independent teachers that teach nobody in this plan."""
        busy = {teacher.id for teacher in self.teachers}
        return list({other.id: other for other in self.independent.values() if other.id not in busy}.values())

    @property
    def loads_weights(self) -> bool:
        """Whether any model of the plan comes with weights from a checkpoint."""
        return any(node.entry.checkpoint is not None for node in self.nodes.values())

    @property
    def cells(self) -> list[Cell]:
        """Every cell, cohort by cohort."""
        return [cell for cohort in self.cohorts for cell in cohort.cells]

    @property
    def supporting(self) -> list[Node]:
        """What cells rest on but no table shows: independent teachers, assistants, links of chains."""
        rows = {cell.id for cell in self.cells} | {teacher.id for teacher in self.teachers}
        return [*self.idle_teachers, *(node for node in _resting(self.cells) if node.id not in rows)]

    @property
    def nodes(self) -> dict[str, Node]:
        """Every node that is to be made, by id: teachers, what supports cells, cells."""
        asked = (cell.node for cell in self.cells if not cell.refusal)
        return {node.id: node for node in (*self.teachers, *self.supporting, *asked)}

    @property
    def compared(self) -> dict[str, Node]:
        """The nodes that are rows of the results, by id: teachers and cells that can be made."""
        asked = (cell.node for cell in self.cells if not cell.refusal)
        return {node.id: node for node in (*self.teachers, *asked)}

    @property
    def labels(self) -> dict[str, dict[str, Any]]:
        """The labels of every record of the plan, by id."""
        nodes = {node.id: node.labels for node in (*self.teachers, *self.supporting)}
        return nodes | {cell.id: cell.labels for cell in self.cells}

    def rows(self) -> list[dict[str, Any]]:
        """Return one plain dictionary a cell, as ``kdbench plan --json`` prints."""
        return [
            {
                "id": cell.id,
                **{name: value for name, value in cell.labels.items() if name != "role"},
                "cohort": cell.cohort,
                "status": "skipped" if cell.refusal else "planned",
                "reason": cell.refusal,
            }
            for cell in self.cells
        ]


def _resting(cells: Iterable[Cell]) -> Iterator[Node]:
    """Yield what the cells that can be made were made from, each once."""
    yield from {
        key: node for cell in cells if not cell.refusal for key, node in cell.node.ancestors.items()
    }.values()
