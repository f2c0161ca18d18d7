"""How the networks of a run were trained: recipes, hyper-parameters of the methods, data, hardware."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from kdbench.analysis.summary import Summary
from kdbench.report import numerals
from kdbench.report.blocks import Block, Facts, Title
from kdbench.report.registry import section
from kdbench.report.table import Cell, Heading, Line, Table
from kdbench.store import Record, canonical_json

# What has a column of its own in the table of recipes, or means nothing to the optimiser that was used.
COLUMNS = ("optimizer", "lr", "schedule", "epochs", "batch_size", "precision")
OF_SPLIT = ("validation_fraction", "split_seed", "imbalance", "classes", "args", "heads")
OF_SGD, OF_MILESTONES = ("momentum", "nesterov"), ("milestones", "gamma")
VERSIONS = ("kdbench", "python", "torch", "torchvision", "onnxruntime")


@section("recipe", order=120)
def recipe(summary: Summary) -> Iterator[Block]:
    """Give the recipes, the methods' hyper-parameters and the setting."""
    yield Title("Recipe")
    yield from filter(None, (recipe_table(summary), method_table(summary)))
    yield Facts(setting(summary))


def recipe_table(summary: Summary) -> Table | None:
    """Return a line for each recipe, with the networks that were trained by it; None where none is known."""
    groups: dict[str, list[Record]] = {}
    recipes: dict[str | None, set[str]] = {}
    for record in summary.records:
        if "recipe" in record.config:
            text = canonical_json(record.config["recipe"])
            groups.setdefault(text, []).append(record)
            recipes.setdefault(record.student, set()).add(text)
    if not groups:
        return None
    several = {student for student, texts in recipes.items() if student is not None and len(texts) > 1}
    lines = [Line(_recipe_cells(members, several)) for members in groups.values()]
    headings = (
        Heading("trained", "trained", numeric=False),
        Heading("epochs", "epochs"),
        Heading("batch_size", "batch"),
        Heading("lr", "learning rate"),
        Heading("schedule", "schedule", numeric=False),
        Heading("optimizer", "optimiser", numeric=False),
        Heading("further", "with", numeric=False),
        Heading("precision", "precision", numeric=False),
    )
    return Table("Training", headings, tuple(lines))


def _recipe_cells(members: Sequence[Record], several: Collection[str]) -> tuple[Cell, ...]:
    """Return what one recipe is, and what it trained; students of ``several`` recipes with their method."""
    recipe = members[0].config["recipe"]
    names = list(dict.fromkeys(_trained(record, several) for record in members))
    trained = Cell(", ".join(names), {"trained": names})
    if recipe is None:
        return (trained, *(Cell(numerals.DASH) for _ in range(5)), Cell("loaded from a checkpoint"), Cell(""))
    used = dict.fromkeys(record.provenance.get("precision") for record in members)
    precisions = [*dict.fromkeys([recipe.get("precision"), *used])]
    return (
        trained,
        *(_number(recipe.get(name)) for name in ("epochs", "batch_size", "lr")),
        Cell(str(recipe.get("schedule", numerals.DASH)).replace("_", " ")),
        Cell(str(recipe.get("optimizer", numerals.DASH))),
        Cell(", ".join(_further(recipe)) or numerals.DASH),
        Cell(": ".join(str(precision) for precision in precisions if precision)),
    )


def _trained(record: Record, several: Collection[str]) -> str:
    student = record.student
    if student is None:
        return f"{record.teacher} ({record.role})"
    return f"{student} by {record.method}" if student in several else str(student)


def _further(recipe: Mapping[str, Any]) -> Iterator[str]:
    for name, value in recipe.items():
        unused = (name in OF_SGD and recipe.get("optimizer") != "sgd") or (
            name in OF_MILESTONES and not recipe.get("milestones")
        )
        absent = value in (None, False, []) or (name, value) == ("warmup", 0)
        if name not in COLUMNS and not unused and not absent:
            yield _setting(name, value)


def method_table(summary: Summary) -> Table | None:
    """Return the hyper-parameters of each method, a line for each setting of it; None without methods."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in summary.records:
        if record.method and "method" in record.config:
            groups.setdefault((record.method, canonical_json(record.config["method"])), []).append(record)
    if not groups:
        return None
    settings = sorted(groups.items(), key=lambda group: summary.run_methods.index(group[0][0]))
    lines = [Line(tuple(_method_cells(label, members, summary))) for (label, _), members in settings]
    headings = (
        Heading("method", "method", numeric=False),
        Heading("hyper", "hyper-parameters", numeric=False),
        Heading("students", "students", numeric=False),
    )
    return Table("Methods", headings, tuple(lines))


def _method_cells(label: str, members: Sequence[Record], summary: Summary) -> Iterator[Cell]:
    config = members[0].config["method"]
    hyper = [_setting(name, value) for name, value in config.items() if name != "name"]
    control = f"a control: {members[0].control_of} with a random teacher" if label in summary.repeats else ""
    students = list(dict.fromkeys(str(record.student) for record in members))
    named = f" ({config['name']})" if config["name"] not in label else ""
    yield Cell(f"{label}{named}", {"method": label})
    yield Cell("; ".join(part for part in (", ".join(hyper), control) if part) or "none", {"hyper": config})
    yield Cell("all" if len(students) == len(summary.student_names) else ", ".join(students))


def setting(summary: Summary) -> tuple[tuple[str, str], ...]:
    """Return what the data were, how they were augmented, on what hardware and with which versions."""
    manifest = summary.manifest
    configs = (record.config.get("dataset") for record in summary.records)
    data: Mapping[str, Any] = next((config for config in configs if config), {})
    sizes = ", ".join(f"{size:,} {split}" for split, size in manifest["sizes"].items())
    facts = (
        ("data", f"{manifest['dataset']}: {sizes}"),
        ("split", ", ".join(_settings(data, OF_SPLIT))),
        ("augmentation", _augmentation(data.get("augment"))),
        ("seeds", ", ".join(map(str, manifest["seeds"]))),
        ("hardware", _hardware(manifest["machine"])),
        ("versions", ", ".join(_versions(manifest["versions"]))),
    )
    return tuple((name, value) for name, value in facts if value)


def _augmentation(augment: Mapping[str, Any] | None) -> str:
    if augment is None:
        return ""
    return ", ".join(_settings(augment, [name for name, value in augment.items() if value])) or "none"


def _hardware(machine: Mapping[str, Any]) -> str:
    gpus = machine.get("gpus") or []
    cores, memory = machine.get("cores_usable") or machine.get("cores"), machine.get("memory_gib")
    parts = [
        machine.get("cpu"),
        f"{cores} cores" if cores else None,
        f"{memory:g} GiB" if memory else None,
        "; ".join(str(gpu.get("name", gpu) if isinstance(gpu, Mapping) else gpu) for gpu in gpus) or "no GPU",
    ]
    return ", ".join(str(part) for part in parts if part)


def _versions(versions: Mapping[str, Any]) -> Iterator[str]:
    for name in VERSIONS:
        if versions.get(name):
            yield f"{'Python' if name == 'python' else name} {versions[name]}"


def _settings(values: Mapping[str, Any], names: Iterable[str]) -> Iterator[str]:
    for name in names:
        if values.get(name) not in (None, {}, []):
            yield _setting(name, values[name])


def _setting(name: str, value: Any) -> str:
    """Return a setting as text: ``weight decay 0.0005``, ``flip``, ``imbalance (factor 100)``."""
    text = name.replace("_", " ")
    if value is True:
        return text
    if isinstance(value, Mapping):
        return f"{text} ({', '.join(_setting(key, inner) for key, inner in value.items())})"
    if isinstance(value, list):
        return f"{text} {', '.join(map(_plain, value))}"
    return f"{text} {_plain(value)}"


def _number(value: Any) -> Cell:
    return Cell(numerals.DASH if value is None else _plain(value), sort=value)


def _plain(value: Any) -> str:
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.4g}"
    return str(value).removesuffix(".0")
