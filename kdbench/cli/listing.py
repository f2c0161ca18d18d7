"""Plain rows, and their terminal tables, of what kdbench knows and plans."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from kdbench.column import ARROWS
from kdbench.printable import printable

if TYPE_CHECKING:
    from kdbench.plan import Plan

Rows = list[dict[str, Any]]


def _models() -> Rows:
    from kdbench.efficiency.counts import count_multiply_adds
    from kdbench.models import build_model, families
    from kdbench.models.index import CLASSES, INPUTS, indexed

    rows = []
    for entry in families().values():
        for name in entry.examples:
            listed = indexed(name)
            if listed and listed.macs is not None:
                params, macs = listed.params, listed.macs
            else:
                model = build_model(name, inputs=INPUTS, num_classes=CLASSES)
                params = sum(parameter.numel() for parameter in model.parameters())
                macs = count_multiply_adds(model, INPUTS).headline
            rows.append(
                {
                    "name": name,
                    "params": params,
                    "macs": macs,
                    "summary": entry.summary,
                    "source": entry.source,
                }
            )
    return rows


def _methods() -> Rows:
    from kdbench.methods import methods

    return [
        {
            "name": entry.name,
            "summary": entry.title,
            "parameters": {key: field.default for key, field in entry.parameters.model_fields.items()},
            "source": entry.source,
            "year": entry.year,
        }
        for entry in methods().values()
    ]


def _datasets() -> Rows:
    from kdbench.data import dataset_sources
    from kdbench.data.options import COMMON

    return [
        {
            "name": name,
            "summary": source.title,
            "args": [*COMMON, *(source.options or ())],
            "source": source.reference,
        }
        for name, source in dataset_sources().items()
    ]


def _metrics() -> Rows:
    from kdbench.methods import methods
    from kdbench.metrics import catalogue
    from kdbench.metrics.robustness import COLUMNS as ROBUSTNESS
    from kdbench.runner.amendments.independent import INDEPENDENT_COLUMNS
    from kdbench.runner.records import all_columns

    of_a_run = [*all_columns((1, 256), list(methods().values())), *INDEPENDENT_COLUMNS, *ROBUSTNESS]
    names = {column.name for column in of_a_run}
    columns = [*of_a_run, *(column for name, column in catalogue().items() if name not in names)]
    keys = ("family", "direction", "unit", "range", "source")
    return [
        {"name": column.name, "summary": column.title} | {key: getattr(column, key) for key in keys}
        for column in columns
    ]


def _corruptions() -> Rows:
    from kdbench.data.corruptions import corruptions

    return [
        {
            "name": entry.name,
            "family": entry.family,
            "summary": entry.title,
            "level": entry.level,
            "severities": list(entry.levels),
            "source": entry.source,
        }
        for entry in corruptions().values()
    ]


def _suites() -> Rows:
    from kdbench.suite import Suite, suite_file, suite_names

    rows = []
    for name in suite_names():
        suite = Suite.load(name)
        rows.append(
            {
                "name": name,
                "summary": suite.description,
                "dataset": suite.dataset.name,
                "file": suite_file(name).name,
            }
        )
    return rows


LISTINGS: dict[str, Callable[[], Rows]] = {
    "models": _models,
    "methods": _methods,
    "datasets": _datasets,
    "metrics": _metrics,
    "corruptions": _corruptions,
    "suites": _suites,
}


# What a terminal has room for; --json gives everything.
SHOWN = {
    "models": ("name", "params", "macs", "summary"),
    "methods": ("name", "summary", "parameters", "source"),
    "datasets": ("name", "summary", "source"),
    "metrics": ("name", "direction", "unit", "range", "summary"),
    "corruptions": ("name", "summary", "level", "severities", "source"),
    "suites": ("name", "dataset", "summary"),
}


TITLES = {"models": "models, counted at 3x32x32 and 100 classes"}
CAPTIONS = {
    "datasets": "All take the args size and channels (images are made so), limit and limit_test (at most so "
    "many training and test images), mean and std (one number a channel, for pixels from 0 to 1; without "
    "them those of the training images): args: {limit: 5000, mean: [0.5], std: [0.5]}.",
    "methods": "Most also take ce, the weight of cross-entropy (1), kd, that of plain distillation "
    "beside it (0), and kd_temperature (4).",
    "corruptions": "Of severity 1 to 5, on pixels from 0 to 1. Images wider than 32 pixels stretch lengths.",
}
# Said once in the caption, and in the rows only where a method has another default.
SHARED_PARAMETERS = {"ce": 1.0, "kd": 0.0, "kd_temperature": 4.0}


def listing_table(kind: str, rows: Rows) -> Table:
    """Return a listing as a terminal table."""
    table = Table(title=TITLES.get(kind, kind), caption=CAPTIONS.get(kind), box=SIMPLE)
    for name in SHOWN[kind]:
        numeric = isinstance(rows[0][name], int)
        heading = "" if name == "direction" else name
        table.add_column(heading, justify="right" if numeric else "left", no_wrap=name in ("name", "range"))
    for row in rows:
        table.add_row(*(Text(printable(_shown(key, row[key]))) for key in SHOWN[kind]))
    return table


def _shown(key: str, value: Any) -> str:
    if key == "direction":
        return ARROWS[value]
    if isinstance(value, dict):
        own = {name: entry for name, entry in value.items() if SHARED_PARAMETERS.get(name, ...) != entry}
        return ", ".join(f"{name}={_number_or_text(entry)}" for name, entry in own.items())
    if isinstance(value, list):
        return ", ".join(map(_number_or_text, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def _number_or_text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def plan_table(plan: Plan) -> Table:
    """Return the matrix of a plan: a row a teacher, student and method, with its seeds."""
    table = Table(title=Text(printable(f"{plan.suite.name}: {plan.suite.description}")))
    for name in ("teacher", "student", "method", "seeds", "note"):
        table.add_column(name)
    rows: dict[tuple[str, str, str, str], list[str]] = {}
    for cell in plan.cells:
        note = f"skipped: {cell.refusal}" if cell.refusal else "control" if cell.control_of else ""
        rows.setdefault((cell.teacher, cell.student, cell.method, note), []).append(str(cell.seed))
    for (teacher, student, method, note), seeds in rows.items():
        table.add_row(*(Text(printable(text)) for text in (teacher, student, method, ", ".join(seeds), note)))
    return table
