"""From a suite to its plan: every combination, its id, and the refusal of what cannot be run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kdbench.data import check_classes, dataset_remarks, describe_dataset, describe_tasks
from kdbench.data.class_order import refuse_shared_classes
from kdbench.data.corruptions import selected
from kdbench.errors import UserError, nearest
from kdbench.methods import Pair, Refusal, check_pair
from kdbench.methods.heads import check_heads, pair_in
from kdbench.plan.cells import Cell, Cohort, Lesson, Plan, TeacherPlan
from kdbench.plan.controls import (
    RANDOM_TEACHER,
    control_label,
    independents,
    refuse_idle,
    takes_random_teacher,
)
from kdbench.plan.identity import ENGINE, dataset_config, method_config, model_config
from kdbench.plan.sketch import Sketches
from kdbench.plan.variants import Variant, expand
from kdbench.store import content_id
from kdbench.suite import Suite
from kdbench.suite.schema import ModelEntry, OptimizerFields, Recipe, TeacherEntry


def make_plan(suite: Suite, data_root: Path | None = None) -> Plan:
    """Expand a suite into cohorts of cells and check everything that can be checked before training.

    Raises:
        UserError: for unknown models, methods, arguments or students, checkpoints that do not fit,
            duplicate cells, an empty matrix, and a method that cannot work with a pair (unless the
            suite says ``inapplicable: skip``).
    """
    data = suite.dataset
    described = describe_dataset(data.name, root=data_root, folder=data.folder, args=data.args)
    input_shape, classes, target = described
    check_classes(data, classes, target=target, root=data_root)
    of_classes = {
        "robustness": suite.robustness is not None,
        "controls.independent_teacher": suite.controls.independent_teacher is not None,
    }
    refuse_shared_classes(data.name, target, of_classes)
    found = describe_tasks(data.name, tuple(data.tasks), root=data_root, folder=data.folder, args=data.args)
    tasks = {task: len(names) for task, names in found.items()}
    sketches = Sketches(input_shape, classes + sum(tasks.values()), suite.recipe.precision)
    teachers = tuple(_teacher(suite, entry, sketches) for entry in suite.teachers)
    for student in suite.students:
        sketches.of("student", student)
    matrix = _Matrix(suite, sketches, classes, tasks, target)
    cohorts = []
    for teacher in teachers:
        meetings = list(matrix.meetings(teacher.label))
        if not meetings:
            raise UserError(f"teacher '{teacher.label}' is in no pair: name it in pairs, or leave it out.")
        for seed in suite.seeds:
            cells = tuple(matrix.cells(teacher, meetings, seed))
            if cells:
                cohorts.append(Cohort(cells[0].cohort, teacher, seed, suite.recipe, cells))
    others = independents(suite, teachers, lambda entry: _teacher(suite, entry, sketches))
    of_data = dataset_remarks(data.name, root=data_root, folder=data.folder, args=data.args)
    remarks = (*of_data, *sketches.remarks())
    plan = Plan(suite, input_shape, classes, teachers, tuple(cohorts), others, tasks, remarks, target)
    _refuse(plan)
    refuse_idle(plan)
    _check_robustness(suite, classes)
    return plan


def _teacher(suite: Suite, entry: TeacherEntry, sketches: Sketches) -> TeacherPlan:
    recipe = _override(Recipe, suite.recipe, entry, "teacher")
    sketch = sketches.of("teacher", entry)
    config = {
        "engine": ENGINE,
        "dataset": dataset_config(suite.dataset),
        "model": model_config(entry, sketch),
        "seed": entry.seed,
        "recipe": None if entry.checkpoint else recipe.model_dump(mode="json"),
    }
    return TeacherPlan(content_id(config), entry.shown, entry, recipe, sketch.taps, sketch.shapes, config)


class _Matrix:
    """The cells of a suite: which student meets which teacher, by which methods."""

    def __init__(
        self, suite: Suite, sketches: Sketches, classes: int, tasks: Mapping[str, int], target: str
    ) -> None:
        self._suite = suite
        self._sketches = sketches
        self._classes = classes
        self._tasks = tasks
        self._target = target
        self._dataset = dataset_config(suite.dataset)
        self._recipe = suite.recipe.model_dump(mode="json")
        self._usual = self._variants({})

    def _variants(self, special: Mapping[str, Mapping[str, Any]]) -> list[Variant]:
        return [
            variant
            for entry in self._suite.methods
            for variant in expand(entry, self._suite, special.get(entry.label or entry.name))
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
        self, teacher: TeacherPlan, meetings: list[tuple[ModelEntry, list[Variant]]], seed: int
    ) -> Iterator[Cell]:
        """Yield the cells of one cohort."""
        cohort = content_id([teacher.id, self._dataset, self._recipe, seed])
        for student, variants in meetings:
            recipe = _override(OptimizerFields, self._suite.recipe, student, "student")
            for variant in variants:
                if student.shown in variant.students:
                    cell = self._cell(cohort, teacher, student, recipe, variant, seed)
                    yield cell
                    if self._suite.controls.random_teacher and takes_random_teacher(cell):
                        yield self._cell(cohort, teacher, student, recipe, variant, seed, control=True)

    def _cell(
        self,
        cohort: str,
        teacher: TeacherPlan,
        student: ModelEntry,
        recipe: Recipe,
        variant: Variant,
        seed: int,
        control: bool = False,
    ) -> Cell:
        distiller = variant.registered.distiller
        config = {
            "engine": ENGINE,
            "dataset": self._dataset,
            "teacher": teacher.id,
            "student": model_config(student, self._sketches.of("student", student)),
            **method_config(variant),
            "recipe": recipe.model_dump(mode="json"),
            "seed": seed,
        }
        if control:
            config["control"] = RANDOM_TEACHER
        tutor, pair, refusal = teacher, self._pair(teacher, student), None
        try:
            check_pair(distiller, variant.hyper, pair)
            check_heads(distiller, variant.hyper, pair, self._tasks)
            for name in distiller.assistants(variant.hyper, student.shown):
                entry = student if name == student.shown else student.beside(name)
                used = recipe if entry is student else self._suite.recipe
                tutor = self._assistant(tutor, entry, used, variant, seed)
                pair = self._pair(tutor, student)
                check_pair(distiller, variant.hyper, pair)
        except Refusal as reason:
            refusal = str(reason)
        if tutor is not teacher:
            config["tutor"] = tutor.id
        kept = distiller.deployed(variant.hyper, student.opened(), tutor.entry.opened())
        return Cell(
            id=content_id(config),
            cohort=cohort,
            teacher=teacher.label,
            student=student.shown,
            method=control_label(variant.label) if control else variant.label,
            seed=seed,
            entry=student,
            recipe=recipe,
            taps=self._sketches.of("student", student).taps,
            registered=variant.registered,
            hyper=variant.hyper,
            pair=pair,
            config=config,
            tutor=tutor,
            deployed=kept
            and student.beside(kept[0], args=kept[1], label=f"{student.shown} by {variant.label}"),
            control_of=variant.label if control else None,
            refusal=refusal,
        )

    def _pair(self, teacher: TeacherPlan, student: ModelEntry) -> Pair:
        theirs = self._sketches.of("teacher", teacher.entry)
        mine = self._sketches.of("student", student)
        whole = Pair(
            teacher=teacher.label,
            student=student.shown,
            teacher_shapes=theirs.shapes,
            student_shapes=mine.shapes,
            num_classes=self._classes,
            same_architecture=theirs.weights == mine.weights,
            target=self._target,
        )
        return pair_in(whole, self._classes)

    def _assistant(
        self, tutor: TeacherPlan, entry: ModelEntry, recipe: Recipe, variant: Variant, seed: int
    ) -> TeacherPlan:
        """Return a model that is taught by the method itself, to teach in its turn."""
        sketch = self._sketches.of("assistant", entry)
        pair = self._pair(tutor, entry)
        check_pair(variant.registered.distiller, variant.hyper, pair)
        config = {
            "engine": ENGINE,
            "dataset": self._dataset,
            "teacher": tutor.id,
            "model": model_config(entry, sketch),
            **method_config(variant),
            "recipe": recipe.model_dump(mode="json"),
            "seed": seed,
        }
        return TeacherPlan(
            content_id(config),
            f"{entry.shown} taught by {tutor.label}",
            TeacherEntry.of(entry, seed),
            recipe,
            sketch.taps,
            sketch.shapes,
            config,
            Lesson(tutor, variant.registered, variant.hyper, pair),
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
    selected(entry.corruptions)
    if entry.examples is not None and entry.examples < classes:
        raise UserError(
            f"robustness.examples is {entry.examples}: give at least one example a class ({classes})."
        )


def _override(fields: type[OptimizerFields], recipe: Recipe, entry: ModelEntry, role: str) -> Recipe:
    """Return the suite's recipe with the changes that one model asks for."""
    for key in entry.recipe:
        if key in fields.model_fields:
            continue
        if key in Recipe.model_fields:
            raise UserError(
                f"{role} '{entry.shown}': recipe.{key} is shared by the cohort; set it in the suite's recipe."
            )
        raise UserError(
            f"{role} '{entry.shown}': unknown recipe field '{key}'.{nearest(key, fields.model_fields)}"
        )
    try:
        return Recipe.model_validate(recipe.model_dump() | entry.recipe)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in ("recipe", *first["loc"]))
        raise UserError(
            f"{role} '{entry.shown}': {where}: {first['msg'].removeprefix('Value error, ')}."
        ) from None
