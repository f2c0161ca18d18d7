"""What papers report for the rows of a run, and in what a run's training differs from theirs.

The figures are those of ``benchmarks/published``: a dataset's CSV table, and beside it in YAML the training
that its papers share. A row is found by the names of its models and its method, not by the labels of a suite.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from kdbench.analysis.comparison import CONTROL
from kdbench.analysis.rows import Key, Row
from kdbench.analysis.summary import Summary
from kdbench.errors import UserError, in_words
from kdbench.inputs import InputSpec
from kdbench.printable import counted
from kdbench.store import Record
from kdbench.suite import suite_folder
from kdbench.suite.schema import Augment, Recipe, Strict
from kdbench.suite.yaml_source import read_value

Epoch = Literal["last", "best-on-test"]
# How a row of a table says that it is of the teacher itself.
TEACHER = "teacher"
COMMON_SOURCE = "CRD ICLR 2020"
UNLIKE_IN_RECIPE = ("batch_size", "optimizer", "lr", "weight_decay", "clip_norm", "warmup")
ONLY_OF_SGD = ("momentum", "nesterov")


class Protocol(Strict):
    """How the papers of a table train, in the words of a suite; ``students`` holds changes of the recipe."""

    input_shape: tuple[int, int, int]
    classes: int
    train: int
    test: int
    augment: Augment
    recipe: Recipe
    students: dict[str, dict[str, Any]] = Field(default_factory=dict)

    def recipe_of(self, model: str) -> dict[str, Any]:
        """Return the recipe by which the papers train a model."""
        return self.recipe.model_dump(mode="json") | self.students.get(model, {})


@dataclass(frozen=True)
class PublishedFigure:
    """One published accuracy, a proportion, with the epoch that it is of and the paper that prints it."""

    top1: float
    epoch: Epoch
    source: str
    own_paper: bool
    epochs: int
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Match:
    """A published figure beside a row of a run.

    ``difference`` is the row's top-1 of the last epoch minus the figure, None where the row has none;
    ``unlike`` says in what the row was made otherwise than the figure.
    """

    figure: PublishedFigure
    difference: float | None
    unlike: tuple[str, ...]


@dataclass(frozen=True)
class Published:
    """What papers report for the rows of a run; ``reason`` says why there is nothing, where there is none."""

    matches: Mapping[Key, Match]
    protocol: Protocol | None = None
    reason: str | None = None

    def of(self, row: Row) -> Match | None:
        """Return the published figure of a row."""
        return self.matches.get(row.key)

    @property
    def shared(self) -> tuple[str, ...]:
        """In what all students that have a figure were made otherwise; all teachers, where no student has."""
        students = [match.unlike for key, match in self.matches.items() if key[1] is not None]
        unlike = students or [match.unlike for match in self.matches.values()]
        return tuple(text for text in unlike[0] if all(text in other for other in unlike)) if unlike else ()

    def has_all_shared(self, match: Match) -> bool:
        """Return whether what is said of the students holds for a row; a teacher may be trained otherwise."""
        return set(self.shared) <= set(match.unlike)

    def not_shared(self, match: Match) -> tuple[str, ...]:
        """Return what is left to say of a row beside what all share."""
        if not self.has_all_shared(match):
            return match.unlike
        return tuple(text for text in match.unlike if text not in self.shared)


@dataclass(frozen=True)
class PublishedTable:
    """The published figures of one dataset."""

    protocol: Protocol
    figures: Mapping[Key, tuple[PublishedFigure, ...]]

    @classmethod
    def read(cls, path: Path) -> PublishedTable:
        """Read a table, and the protocol beside it; raises UserError for what cannot be understood."""
        side = path.with_suffix(".yaml")
        try:
            protocol = Protocol.model_validate(read_value(side.read_text()))
        except (OSError, yaml.YAMLError, ValidationError) as error:
            raise UserError(f"{side} is not the protocol of a published table: {_line(error)}") from None
        figures: dict[Key, list[PublishedFigure]] = {}
        with path.open(newline="") as file:
            reader = csv.DictReader(file, restval="")
            for entry in reader:
                try:
                    key, figure = _parsed(entry)
                except (KeyError, ValueError, AttributeError, yaml.YAMLError) as error:
                    raise UserError(
                        f"{path}:{reader.line_num}: not a published figure: {_line(error)}"
                    ) from None
                figures.setdefault(key, []).append(figure)
        return cls(protocol, {key: tuple(entries) for key, entries in figures.items()})

    def find(self, teacher: str, student: str | None, method: str | None) -> PublishedFigure | None:
        """Return the published figure: that of the method's own paper, else CRD's, else the first."""
        figures = self.figures.get(_table_key(teacher, student, method), ())
        return min(figures, key=lambda f: (not f.own_paper, f.source != COMMON_SOURCE), default=None)


def published_tables() -> dict[str, Path]:
    """Return the tables that ship with kdbench, by the names of their datasets."""
    return {path.stem: path for path in sorted((suite_folder() / "published").glob("*.csv"))}


def find_published(summary: Summary) -> Published:
    """Return what papers report for the rows of a run; a run without any such row is no error."""
    tables, dataset = published_tables(), str(summary.manifest["dataset"])
    if "top1" not in summary.columns:
        return Published({}, reason="papers report top-1 accuracy, which this run does not have")
    if dataset not in tables:
        held = f"; there are figures for {', '.join(tables)}" if tables else ""
        return Published({}, reason=f"none are known for the dataset {dataset}{held}")
    table = PublishedTable.read(tables[dataset])
    matches = dict(_matches(table, summary))
    reason = None
    if not matches:
        reason = f"those for {dataset} hold none of this run's teachers, students and methods"
    return Published(matches, table.protocol, reason)


def _matches(table: PublishedTable, summary: Summary) -> Iterator[tuple[Key, Match]]:
    teachers = {r.id: r.config.get("model", {}) for r in summary.records if r.role == "teacher"}
    first: dict[Key, Record] = {}
    for record in summary.records:
        first.setdefault((record.teacher, record.student, record.method), record)
    for row in summary.rows:
        record = first[row.key]
        config = record.config
        student = None if row.role == "teacher" else _model_name(config.get("student"))
        teacher = _model_name(config.get("model") or teachers.get(record.origin or ""))
        if (row.role == "student" and student is None) or record.control_of:
            continue
        # A teacher that no table knows leaves the control, which learns from none.
        figure = table.find(teacher or "", student, record.method_name)
        if figure is not None:
            top1 = row.mean("top1")
            unlike = tuple(_unlike(table.protocol, figure, student or row.teacher, record, summary.manifest))
            yield row.key, Match(figure, None if top1 is None else top1 - figure.top1, unlike)


def _table_key(teacher: str, student: str | None, method: str | None) -> Key:
    """Return what a figure is looked up by: the control learns from no teacher, a teacher by no method."""
    return ("", student, method) if method == CONTROL else (teacher, student, method)


def _parsed(entry: Mapping[str, str]) -> tuple[Key, PublishedFigure]:
    top1 = float(entry["top1_percent"]) / 100
    epoch, own = entry["epoch_reported"], entry["own_paper"]
    if not 0 <= top1 <= 1:
        raise ValueError(f"top1_percent is {entry['top1_percent']}")
    if epoch not in ("last", "best-on-test"):
        raise ValueError(f"epoch_reported is '{epoch}': write last or best-on-test")
    if own not in ("yes", "no"):
        raise ValueError(f"own_paper is '{own}': write yes or no")
    pairs = (pair.split("=") for pair in entry["settings"].split())
    figure = PublishedFigure(
        top1=top1,
        epoch="last" if epoch == "last" else "best-on-test",
        source=entry["source"],
        own_paper=own == "yes",
        epochs=int(entry["epochs"]),
        settings={name: read_value(value) for name, value in pairs},
    )
    method = None if entry["method"] == TEACHER else entry["method"]
    return _table_key(entry["teacher"], entry["student"] or None, method), figure


def _model_name(model: Mapping[str, Any] | None) -> str | None:
    """Return the name of a model of the zoo as it stands there; None where arguments make it another."""
    return None if not model or model.get("args") else model.get("name")


def _unlike(
    protocol: Protocol,
    figure: PublishedFigure,
    model: str,
    record: Record,
    manifest: Mapping[str, Any],
) -> Iterator[str]:
    """Say in what a row was made otherwise than its published figure, the weightiest first."""
    config, sizes = record.config, manifest["sizes"]
    recipe = config.get("recipe")
    if recipe is None:
        yield "a checkpoint whose training is not recorded"
    else:
        if recipe["epochs"] != figure.epochs:
            yield f"{counted(recipe['epochs'], 'epoch')} instead of {figure.epochs}"
        if sizes["train"] != protocol.train:
            yield f"{sizes['train']:,} training images instead of {protocol.train:,}"
    if sizes["test"] != protocol.test:
        yield f"{sizes['test']:,} test images instead of {protocol.test:,}"
    if len(manifest["classes"]) != protocol.classes:
        yield f"{len(manifest['classes'])} classes instead of {protocol.classes}"
    inputs, theirs = InputSpec.recorded(manifest), InputSpec.image(protocol.input_shape)
    if inputs.image_shape != theirs.image_shape:
        yield f"input {inputs} instead of {theirs}"
    if recipe is not None:
        augment = config.get("dataset", {}).get("augment", {})
        yield from _changed(augment, protocol.augment.model_dump(), augment)
        yield from _unlike_recipe(recipe, protocol.recipe_of(model) | {"epochs": figure.epochs})
    if "checkpoint" in config.get("student", {}):
        yield "first weights from a checkpoint"
    yield from _unlike_method(config.get("method", {}), figure.settings)


def _unlike_recipe(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[str]:
    yield from _changed(ours, theirs, UNLIKE_IN_RECIPE)
    if ours["optimizer"] == theirs["optimizer"]:
        yield from _changed(ours, theirs, ONLY_OF_SGD)
    yield from _changed(ours, theirs, ("schedule",))
    if ours["schedule"] == theirs["schedule"] == "step":
        # Steps at the same shares of a shorter training are the same schedule.
        scaled = [step * ours["epochs"] / theirs["epochs"] for step in theirs["milestones"]]
        steps = ours["milestones"]
        if len(steps) != len(scaled) or any(abs(a - b) >= 1 for a, b in zip(steps, scaled, strict=True)):
            yield f"steps after {_text(steps)} instead of {_text([round(step) for step in scaled])}"
        yield from _changed(ours, theirs, ("gamma",))


def _unlike_method(hyper: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[str]:
    """Say which hyper-parameters are neither the paper's, as far as they are known, nor the usual ones."""
    from kdbench.methods import methods  # a third of a second, for runs with published figures only

    method = methods().get(hyper.get("name", ""))
    if method is not None:
        usual = {name: entry.default for name, entry in method.parameters.model_fields.items()}
        yield from _changed(hyper, {**usual, **settings}, usual)


def _changed(ours: Mapping[str, Any], theirs: Mapping[str, Any], names: Iterable[str]) -> Iterator[str]:
    for name in names:
        if name in ours and name in theirs and ours[name] != theirs[name]:
            yield f"{name.replace('_', ' ')} {_text(ours[name])} instead of {_text(theirs[name])}"


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value).replace("_", "-")


def _line(error: Exception) -> str:
    return in_words(error)
