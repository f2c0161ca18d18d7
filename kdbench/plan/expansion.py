"""From a suite to its plan: every combination, its id, and the refusal of what cannot be run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kdbench.code.factory import factory_fingerprint
from kdbench.data import check_classes, dataset_remarks, describe_dataset, describe_heads
from kdbench.data.class_order import refuse_shared_classes
from kdbench.data.corruptions import selected
from kdbench.errors import UserError
from kdbench.inputs import IMAGE, InputSpec
from kdbench.plan.controls import (
    control_label,
    independents,
    refuse_idle,
    takes_random_teacher,
)
from kdbench.plan.identity import dataset_config
from kdbench.plan.making import Made, Maker
from kdbench.plan.nodes import Cell, Cohort, Node, Plan
from kdbench.plan.sketch import Sketches
from kdbench.plan.steps import Training
from kdbench.plan.variants import Variant, expand
from kdbench.store import content_id
from kdbench.suite import Suite
from kdbench.suite.references import located
from kdbench.suite.schema import ModelEntry
from kdbench.targets import find_target

# A plan of so many takes minutes, and no machine trains them in a year.
MOST_CELLS = 100_000


def make_plan(suite: Suite, data_root: Path | None = None) -> Plan:
    """Expand a suite into cohorts of cells and check everything that can be checked before training.

    Raises:
        UserError: for unknown models, methods, arguments or students, checkpoints that do not fit,
            duplicate cells, an empty matrix, and a method that cannot work with a pair (unless the
            suite says ``inapplicable: skip``).
    """
    data = suite.dataset
    described = describe_dataset(data.name, root=data_root, folder=data.folder, args=data.args)
    inputs, classes, target = described
    check_classes(data, classes, target=target, root=data_root)
    of_classes = {
        "robustness": suite.robustness is not None,
        "controls.independent_teacher": suite.controls.independent_teacher is not None,
    }
    refuse_shared_classes(data.name, target, of_classes)
    _check_metrics(suite, target)
    heads = {
        head: len(names)
        for head, names in describe_heads(
            data.name, tuple(data.heads), root=data_root, folder=data.folder, args=data.args
        ).items()
    }
    sketches = Sketches(inputs, classes + sum(heads.values()), suite.recipe.precision)
    maker = Maker(suite, sketches, classes, heads, target)
    teachers = tuple(map(maker.teacher, suite.teachers))
    for student in suite.students:
        maker.look_at(student)
    matrix = _Matrix(suite, maker)
    cohorts: list[Cohort] = []
    for teacher in teachers:
        meetings = list(matrix.meetings(teacher.label))
        if not meetings:
            raise UserError(f"teacher '{teacher.label}' is in no pair: name it in pairs, or leave it out.")
        for seed in suite.seeds:
            cohorts += _cohorts(suite, teacher, seed, matrix.cells(teacher, meetings, seed))
    others = independents(suite, teachers, maker.teacher)
    of_data = dataset_remarks(data.name, root=data_root, folder=data.folder, args=data.args)
    remarks = (*of_data, *sketches.remarks())
    plan = Plan(
        suite, inputs, classes, teachers, tuple(cohorts), others, heads, remarks, target, _sources(suite)
    )
    _refuse(plan)
    refuse_idle(plan)
    _check_robustness(suite, classes)
    _refuse_without_images(suite, inputs)
    return plan


def _cohorts(suite: Suite, teacher: Node, seed: int, cells: Iterable[Cell]) -> Iterator[Cohort]:
    """Yield the cohorts of a teacher and a seed: those first whose students others begin from."""
    groups: dict[int, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.node.depth, []).append(cell)
    asked = {cell.id for members in groups.values() for cell in members}
    links: dict[int, dict[str, Node]] = {}
    made = [cell for members in groups.values() for cell in members if not cell.refusal]
    for node in (node for cell in made for node in cell.node.own_trainings if node.role == "student"):
        if node.id not in asked:
            links.setdefault(node.depth, {})[node.id] = node
    for depth in sorted({*groups, *links}):
        yield Cohort(
            _cohort_id(suite, teacher, seed, depth),
            teacher,
            seed,
            suite.recipe,
            tuple(groups.get(depth, ())),
            tuple(links.get(depth, {}).values()),
        )


def _cohort_id(suite: Suite, teacher: Node, seed: int, depth: int) -> str:
    key = [teacher.id, dataset_config(suite.dataset), suite.recipe.model_dump(mode="json"), seed]
    return content_id(key if depth == 0 else [*key, depth])


class _Matrix:
    """The cells of a suite: which student meets which teacher, by which methods."""

    def __init__(self, suite: Suite, maker: Maker) -> None:
        self._suite = suite
        self._maker = maker
        self._usual = self._variants({})
        counts = map(len, (suite.teachers, suite.students, self._usual, suite.seeds))
        if (cells := math.prod(counts)) > MOST_CELLS:
            raise UserError(
                f"the suite spans up to {cells:,} cells (teachers × students × methods × seeds): "
                f"make suites of {MOST_CELLS:,} at most."
            )

    def _variants(self, special: Mapping[str, Mapping[str, Any]]) -> list[Variant]:
        return [
            variant
            for entry in self._suite.methods
            for variant in expand(entry, self._suite, special.get(entry.shown))
        ]

    def meetings(self, teacher: str) -> Iterator[tuple[ModelEntry, list[Variant]]]:
        """Yield the students of a teacher, each with its methods."""
        if not self._suite.pairs:
            for student in self._suite.students:
                yield student, self._usual
        for pair in self._suite.pairs:
            if pair.teacher == teacher:
                variants = self._variants(pair.methods) if pair.methods else self._usual
                for student in self._suite.students:
                    if student.shown in pair.students:
                        yield student, variants

    def cells(
        self, teacher: Node, meetings: list[tuple[ModelEntry, list[Variant]]], seed: int
    ) -> Iterator[Cell]:
        """Yield the cells of a teacher and a seed; one that no seed changes comes with the first of them."""
        for student, variants in meetings:
            for variant in variants:
                if student.shown not in variant.students:
                    continue
                made = self._maker.student(teacher, student, variant, seed)
                if not made.node.own_trainings and not made.refusal and seed != self._suite.seeds[0]:
                    continue
                yield self._cell(teacher, student, variant, made)
                if self._suite.controls.random_teacher and takes_random_teacher(made):
                    control = self._maker.student(teacher, student, variant, seed, shuffled=True)
                    yield self._cell(teacher, student, variant, control)

    def _cell(self, teacher: Node, student: ModelEntry, variant: Variant, made: Made) -> Cell:
        node, step = made.node, made.node.step
        repeats = isinstance(step, Training) and step.shuffled
        return Cell(
            node=node,
            cohort=_cohort_id(self._suite, teacher, node.seed, node.depth),
            teacher=teacher.label,
            student=student.shown,
            method=control_label(variant.label) if repeats else variant.label,
            control_of=variant.label if repeats else None,
            refusal=made.refusal,
        )


def _refuse(plan: Plan) -> None:
    if not plan.cells:
        raise UserError(f"suite '{plan.suite.name}' has no cells: no method is for any of its students.")
    seen: dict[str, Cell] = {}
    named: set[tuple[str, str, str, int]] = set()
    for cell in plan.cells:
        place = (cell.teacher, cell.student, cell.method, cell.seed)
        if place in named and cell.id not in seen:
            raise UserError(
                f"suite '{plan.suite.name}' has duplicate cells: two methods are called '{cell.method}' for "
                f"teacher '{cell.teacher}' and student '{cell.student}'; give one another label."
            )
        named.add(place)
        if cell.id in seen:
            raise UserError(
                f"suite '{plan.suite.name}' has duplicate cells: {cell.student} by {cell.method} "
                f"(seed {cell.seed}) is the same as by {seen[cell.id].method}."
            )
        seen[cell.id] = cell
        if cell.refusal and plan.suite.inapplicable == "error":
            raise UserError(
                f"method '{cell.method}' cannot work with teacher '{cell.teacher}' and student "
                f"'{cell.student}': {cell.refusal}. "
                "Name the students that it is for, or set inapplicable: skip."
            )
    if all(cell.refusal for cell in plan.cells):
        raise UserError(f"suite '{plan.suite.name}' has no cells that can be run: {plan.cells[0].refusal}.")


def _check_robustness(suite: Suite, classes: int) -> None:
    entry = suite.robustness
    if entry is None:
        return
    selected(entry.references)
    if entry.examples is not None and entry.examples < classes:
        raise UserError(
            f"robustness.examples is {entry.examples}: give at least one example a class ({classes})."
        )


def _sources(suite: Suite) -> dict[str, str]:
    """Return the fingerprints of metrics and corruptions of a user's own, by their references."""
    metrics = (located(name, suite.dataset.folder) for name in suite.metrics)
    corruptions = suite.robustness.references if suite.robustness else ()
    return {name: factory_fingerprint(name) for name in (*metrics, *corruptions) if ":" in name}


def _check_metrics(suite: Suite, target: str) -> None:
    """Raise UserError for a metric of a user's own that is none, or that the data has nothing for."""
    if suite.metrics:
        from kdbench.metrics import catalogue

        own = tuple(located(name, suite.dataset.folder) for name in suite.metrics)
        catalogue(find_target(target), own)


def _refuse_without_images(suite: Suite, inputs: InputSpec) -> None:
    """Raise UserError for what a suite asks of images where the dataset has none."""
    asked = {
        "robustness": suite.robustness,
        "dataset.augment": any(suite.dataset.augment.model_dump().values()),
    }
    for field in asked if IMAGE not in inputs.fields else ():
        if asked[field]:
            raise UserError(f"{field} is for images, and {suite.dataset.shown} has none: leave it out.")
