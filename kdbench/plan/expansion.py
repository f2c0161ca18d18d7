"""From a suite to its plan: every combination, its id, and the refusal of what cannot be run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kdbench.data import describe_dataset
from kdbench.errors import UserError, nearest
from kdbench.factory import factory_fingerprint
from kdbench.methods import Pair, Refusal
from kdbench.models.registry import source_of
from kdbench.plan.cells import Cell, Cohort, Plan, TeacherPlan
from kdbench.plan.sketch import Sketch, sketch_model
from kdbench.plan.variants import Variant, expand
from kdbench.store import content_id, sha256_of
from kdbench.suite import DatasetEntry, ModelEntry, OptimizerFields, Recipe, Suite, TeacherEntry

# Part of every id. Raise it when a change of the code changes results, so that old records are not reused.
ENGINE = 1


def make_plan(suite: Suite, data_root: Path | None = None) -> Plan:
    """Expand a suite into cohorts of cells and check everything that can be checked before training.

    Raises:
        UserError: for unknown models, methods, arguments or students, checkpoints that do not fit,
            duplicate cells, an empty matrix, and a method that cannot work with a pair (unless the
            suite says ``inapplicable: skip``).
    """
    input_shape, classes = describe_dataset(suite.dataset.name, root=data_root, args=suite.dataset.args)
    sketches = {
        (role, entry.shown): sketch_model(role, entry, input_shape, classes)
        for role, entries in (("teacher", suite.teachers), ("student", suite.students))
        for entry in entries
    }
    variants = [variant for entry in suite.methods for variant in expand(entry, suite)]
    teachers = tuple(_teacher(suite, entry, sketches["teacher", entry.shown]) for entry in suite.teachers)
    cohorts = []
    for teacher in teachers:
        for seed in suite.seeds:
            cells = tuple(_cells(suite, teacher, seed, variants, sketches, classes))
            if cells:
                cohorts.append(Cohort(cells[0].cohort, teacher, seed, suite.recipe, cells))
    plan = Plan(suite, input_shape, classes, teachers, tuple(cohorts))
    _refuse(plan)
    return plan


def _teacher(suite: Suite, entry: TeacherEntry, sketch: Sketch) -> TeacherPlan:
    recipe = _override(Recipe, suite.recipe, entry, "teacher")
    config = {
        "engine": ENGINE,
        "dataset": _dataset_config(suite.dataset),
        "model": _model_config(entry),
        "seed": entry.seed,
        "recipe": None if entry.checkpoint else recipe.model_dump(mode="json"),
    }
    return TeacherPlan(content_id(config), entry.shown, entry, recipe, sketch.taps, sketch.shapes, config)


def _cells(
    suite: Suite,
    teacher: TeacherPlan,
    seed: int,
    variants: list[Variant],
    sketches: Mapping[tuple[str, str], Sketch],
    classes: int,
) -> Iterator[Cell]:
    cohort = content_id(
        [teacher.id, _dataset_config(suite.dataset), suite.recipe.model_dump(mode="json"), seed]
    )
    teacher_sketch = sketches["teacher", teacher.label]
    for student in suite.students:
        recipe = _override(OptimizerFields, suite.recipe, student, "student")
        sketch = sketches["student", student.shown]
        pair = Pair(
            teacher=teacher.label,
            student=student.shown,
            teacher_shapes=teacher_sketch.shapes,
            student_shapes=sketch.shapes,
            num_classes=classes,
            same_architecture=teacher_sketch.weights == sketch.weights,
        )
        for variant in variants:
            if student.shown not in variant.students:
                continue
            config = {
                "engine": ENGINE,
                "dataset": _dataset_config(suite.dataset),
                "teacher": teacher.id,
                "student": _model_config(student),
                "method": {"name": variant.registered.name, **variant.hyper.model_dump(mode="json")},
                "recipe": recipe.model_dump(mode="json"),
                "seed": seed,
            }
            yield Cell(
                id=content_id(config),
                cohort=cohort,
                teacher=teacher.label,
                student=student.shown,
                method=variant.label,
                seed=seed,
                entry=student,
                recipe=recipe,
                taps=sketch.taps,
                registered=variant.registered,
                hyper=variant.hyper,
                pair=pair,
                config=config,
                refusal=_refusal(variant, pair),
            )


def _refusal(variant: Variant, pair: Pair) -> str | None:
    try:
        variant.registered.distiller.check(variant.hyper, pair)
    except Refusal as refusal:
        return str(refusal)
    return None


def _refuse(plan: Plan) -> None:
    if not plan.cells:
        raise UserError(f"suite '{plan.suite.name}' has no cells: no method is for any of its students.")
    seen: dict[str, Cell] = {}
    for cell in plan.cells:
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


def _dataset_config(entry: DatasetEntry) -> dict[str, Any]:
    """Return what decides the data: the entry of the suite, and the code of a user's own factory."""
    config = entry.model_dump(mode="json")
    if ":" in entry.name and entry.name.partition(":")[0] not in ("folder", "parquet"):
        config["source"] = factory_fingerprint(entry.name)
    return config


def _model_config(entry: ModelEntry) -> dict[str, Any]:
    """Return what decides a model: names and arguments, and the content of the files behind them."""
    config: dict[str, Any] = {"name": entry.name, "args": entry.args}
    if entry.taps:
        config["taps"] = entry.taps.model_dump(mode="json")
    if entry.checkpoint:
        config["checkpoint"] = sha256_of(entry.checkpoint)
    source = source_of(entry.name)
    if source:
        config["source"] = source
    return config
