"""What a suite comes to: cohorts of cells, each with an id that is a hash of what decides its result."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

import torch
from pydantic import ValidationError

from kdbench.data import describe_dataset
from kdbench.errors import UserError, nearest
from kdbench.factory import factory_fingerprint
from kdbench.methods import Method, Pair, Parameters, Refusal, find_method
from kdbench.models import FeatureShapes, Taps, build_model, feature_shapes, find_taps, fitting_weights
from kdbench.models.features import run_blank
from kdbench.models.registry import Shape, source_of
from kdbench.store import content_id, sha256_of
from kdbench.suite import DatasetEntry, MethodEntry, ModelEntry, OptimizerFields, Recipe, Suite, TeacherEntry

# Part of every id. Raise it when a change of the code changes results, so that old records are not reused.
ENGINE = 1


@dataclass(frozen=True)
class Sketch:
    """A model as the plan knows it: its shapes, and the names and shapes of its weights."""

    taps: Taps
    shapes: FeatureShapes
    weights: tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True, eq=False)
class TeacherPlan:
    """A teacher to train once or to load: its id, its entry in the suite, its recipe."""

    id: str
    label: str
    entry: TeacherEntry
    recipe: Recipe
    taps: Taps
    shapes: FeatureShapes
    config: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Cell:
    """One point of the matrix. ``refusal`` says why it cannot be run, where it cannot."""

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
    refusal: str | None = None


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
    """Everything that a suite asks for, resolved and checked."""

    suite: Suite
    input_shape: Shape
    num_classes: int
    teachers: tuple[TeacherPlan, ...]
    cohorts: tuple[Cohort, ...]

    @property
    def cells(self) -> list[Cell]:
        """Every cell, cohort by cohort."""
        return [cell for cohort in self.cohorts for cell in cohort.cells]

    def rows(self) -> list[dict[str, Any]]:
        """Return one plain dictionary a cell, as ``kdbench plan --json`` prints."""
        return [
            {
                "id": cell.id,
                "teacher": cell.teacher,
                "student": cell.student,
                "method": cell.method,
                "seed": cell.seed,
                "cohort": cell.cohort,
                "status": "skipped" if cell.refusal else "planned",
                "reason": cell.refusal,
            }
            for cell in self.cells
        ]


def make_plan(suite: Suite, data_root: Path | None = None) -> Plan:
    """Expand a suite into cohorts of cells and check everything that can be checked before training.

    Raises:
        UserError: for unknown models, methods, arguments or students, checkpoints that do not fit,
            duplicate cells, an empty matrix, and a method that cannot work with a pair (unless the
            suite says ``inapplicable: skip``).
    """
    input_shape, classes = describe_dataset(suite.dataset.name, root=data_root, args=suite.dataset.args)
    sketches = {
        (role, entry.shown): _sketch(role, entry, input_shape, classes)
        for role, entries in (("teacher", suite.teachers), ("student", suite.students))
        for entry in entries
    }
    variants = [variant for entry in suite.methods for variant in _variants(entry, suite)]
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


@dataclass(frozen=True)
class _Variant:
    """A method with all its hyper-parameters, and the students that it is for."""

    label: str
    registered: Method
    hyper: Parameters
    students: tuple[str, ...]


def _variants(entry: MethodEntry, suite: Suite) -> Iterator[_Variant]:
    registered = find_method(entry.name)
    students = tuple(student.shown for student in suite.students)
    for name in entry.students or ():
        if name not in students:
            raise UserError(f"method '{entry.name}': unknown student '{name}'.{nearest(name, students)}")
    grid = dict(_grid(registered, entry.parameters))
    for values in itertools.product(*grid.values()):
        given = dict(zip(grid, values, strict=True))
        hyper = _hyper(registered, given)
        yield _Variant(
            _label(entry, hyper, swept={key for key in grid if len(grid[key]) > 1}),
            registered,
            hyper,
            students if entry.students is None else entry.students,
        )


def _label(entry: MethodEntry, hyper: Parameters, swept: set[str]) -> str:
    """Name a variant by what sets it apart: parameters that are swept, or that differ from their default."""
    fields = type(hyper).model_fields
    shown = {
        key: value
        for key, value in hyper.model_dump().items()
        if key in swept or (entry.label is None and value != fields[key].default)
    }
    detail = ",".join(
        f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in shown.items()
    )
    name = entry.label or entry.name
    return f"{name}({detail})" if detail else name


def _grid(registered: Method, given: Mapping[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    """Yield the values of each hyper-parameter: a list is swept unless the parameter itself is a list."""
    fields = registered.parameters.model_fields
    for key, value in given.items():
        listed = key in fields and any(
            get_origin(kind) in (list, tuple)
            for kind in (fields[key].annotation, *get_args(fields[key].annotation))
        )
        yield key, value if isinstance(value, list) and not listed else [value]


def _hyper(registered: Method, given: dict[str, Any]) -> Parameters:
    try:
        return registered.parameters(**given)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            known = list(registered.parameters.model_fields)
            hint = nearest(field, known) or f" Known: {', '.join(known) or 'none'}."
            raise UserError(f"method '{registered.name}' has no parameter '{field}'.{hint}") from None
        message = first["msg"][0].lower() + first["msg"][1:]
        raise UserError(
            f"method '{registered.name}': {field}: found {first['input']!r}; {message}."
        ) from None


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
    variants: list[_Variant],
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


def _refusal(variant: _Variant, pair: Pair) -> str | None:
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


def _sketch(role: str, entry: ModelEntry, input_shape: Shape, classes: int) -> Sketch:
    """Build a model once and look at its shapes; what is wrong with it is found before anything trains."""
    try:
        model = build_model(entry.name, input_shape=input_shape, num_classes=classes, args=entry.args)
        logits = run_blank(model, input_shape)
        if logits.shape[1] != classes:
            raise UserError(f"it gives {logits.shape[1]} classes, the dataset has {classes}.")
        taps = resolve_taps(model, entry, input_shape)
        shapes = feature_shapes(model, taps, input_shape)
    except UserError as error:
        raise UserError(f"{role} '{entry.shown}': {error}") from None
    if entry.checkpoint:
        fitting_weights(model, entry.checkpoint)
    weights = tuple((name, tuple(parameter.shape)) for name, parameter in model.named_parameters())
    return Sketch(taps, shapes, weights)


def resolve_taps(model: torch.nn.Module, entry: ModelEntry, input_shape: Shape) -> Taps:
    """Return the taps that a suite names, completed by those that are found."""
    found = find_taps(model, input_shape)
    if entry.taps is None:
        return found
    return Taps(
        stages=found.stages if entry.taps.stages is None else entry.taps.stages,
        pooled=found.pooled if entry.taps.pooled is None else entry.taps.pooled,
    )
