"""What a report says, before it takes a form: facts, tables, figures, failures, provenance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kdbench.analysis.comparison import CONTROL, compare_methods
from kdbench.analysis.published import find_published
from kdbench.analysis.standings import REFERENCE, standings
from kdbench.analysis.summary import Failure, Summary
from kdbench.report import numerals
from kdbench.report.answer import answer
from kdbench.report.attempts import Attempts
from kdbench.report.claims import difference_table, how_to_read
from kdbench.report.columns import split
from kdbench.report.exemplars import exemplar_claims
from kdbench.report.fidelity import control_claims, control_table
from kdbench.report.gallery import Plate
from kdbench.report.headline import main_table
from kdbench.report.published import cautions, published_table
from kdbench.report.ranking import standings_table
from kdbench.report.recipe import method_table, recipe_table, setting
from kdbench.report.runtimes import runtime_table
from kdbench.report.table import Table

NO_TABLE = Table("", (), ())
NO_TEXTS: tuple[str, ...] = ()
NO_EXAMPLES: Any = ((), ())
Facts = tuple[tuple[str, str], ...]
# What records are stamped with one by one; they may differ where a run was carried out in pieces.
STAMPS = ("device", "precision", "threads", "data_checksum", "git", "kdbench")


@dataclass(frozen=True)
class Content:
    """The parts of a report, in the order in which it shows them.

    ``main`` is the whole headline table, ``headline`` and ``further`` are its columns in two tables; so are
    ``of_tasks`` those of the whole tables in ``tasks``.
    """

    title: str
    description: str
    answer: tuple[str, ...]
    facts: Facts
    main: Table
    headline: Table
    reading: tuple[str, ...]
    recipes: tuple[Table, ...]
    setting: Facts
    further: Table | None
    tasks: Mapping[str, Table]
    of_tasks: tuple[Table, ...]
    differences: Table
    control_table: Table | None
    controls: tuple[str, ...]
    exemplars: tuple[str, ...]
    over_kd: Table | None
    ranks: Table | None
    runtimes: Table | None
    published: Table | None
    published_cautions: tuple[str, ...]
    plates: tuple[Plate, ...]
    failures: tuple[Failure, ...]
    nulls: Facts
    provenance: tuple[tuple[str, Facts], ...]
    warnings: tuple[str, ...]


def gather(summary: Summary, plates: Iterable[Plate], attempts: Attempts | None = None) -> Content:
    """Return what the report of a run says; of a part that cannot be made ``attempts`` keeps the reason."""
    attempts = attempts or Attempts()
    make = attempts.make
    manifest = summary.manifest
    comparisons = make("the comparison of methods", [], compare_methods, summary)
    published = make("the list of published figures", None, find_published, summary)
    exemplars, without_exemplars = make("the examples", NO_EXAMPLES, exemplar_claims, summary)
    main = make("the results", NO_TABLE, main_table, summary)
    headline, further = split(main)
    tasks = {
        task: make(f"the results of {task}", NO_TABLE, main_table, summary, summary.headline_of(task))
        for task in manifest.get("tasks", {})
    }
    of_tasks = [split(table, f"Further measures of quality: {task}") for task, table in tasks.items()]
    recipes = (
        make("the recipe", None, recipe_table, summary),
        make("the methods' hyper-parameters", None, method_table, summary),
    )
    return Content(
        title=f"{manifest['suite']}: knowledge distillation on {manifest['dataset']}",
        description=manifest.get("description", ""),
        answer=make("the answer", NO_TEXTS, lambda: tuple(answer(summary))),
        facts=_facts(summary),
        main=main,
        headline=headline,
        reading=make("how to read this", NO_TEXTS, lambda: tuple(how_to_read(summary, comparisons))),
        recipes=tuple(table for table in recipes if table),
        setting=make("the setting", (), setting, summary),
        further=further,
        tasks=tasks,
        of_tasks=tuple(table for parts in of_tasks for table in parts if table),
        differences=make("the differences", NO_TABLE, difference_table, summary),
        control_table=make("the table of controls", None, control_table, summary),
        controls=make("the controls", NO_TEXTS, lambda: tuple(control_claims(summary))),
        exemplars=tuple(exemplars),
        over_kd=make("the differences from kd", None, _over_kd, summary),
        ranks=make("the ranks", None, _ranks, summary),
        runtimes=make("the runtimes", None, runtime_table, summary),
        published=make("the published figures", None, published_table, summary, published)
        if published
        else None,
        published_cautions=make("the cautions", NO_TEXTS, lambda: tuple(cautions(published)))
        if published
        else (),
        plates=tuple(plates),
        failures=summary.failures,
        nulls=(*make("why numbers are missing", (), _nulls, summary), *without_exemplars),
        provenance=(
            ("Run", _run(summary)),
            ("Machine", tuple(_flat(manifest["machine"]))),
            ("Versions", tuple(_flat(manifest["versions"]))),
        ),
        # The last: it tells of what could not be made above.
        warnings=(
            *make("the comparison of records", NO_TEXTS, lambda: tuple(_warnings(summary))),
            *(f"{broken}." for broken in attempts.broken),
        ),
    )


def _over_kd(summary: Summary) -> Table | None:
    """Return the differences from plain distillation, where the run has it in one form beside others."""
    plain = {r.method for r in summary.records if r.method and r.method_name == REFERENCE} - set(
        summary.repeats
    )
    others = set(summary.methods) - plain - set(summary.repeats) - {CONTROL}
    return difference_table(summary, baseline=plain.pop()) if len(plain) == 1 and others else None


def _ranks(summary: Summary) -> Table | None:
    """Return the methods by mean rank, where there are enough methods and students to test them."""
    found = standings([summary])
    return None if found.ranking.reason else standings_table(found, summary.columns[found.metric])


def _facts(summary: Summary) -> Facts:
    manifest, failed = summary.manifest, len(summary.failures)
    sizes = manifest["sizes"]
    done = f"{len(summary.records) - failed} done, {failed} failed or skipped"
    if summary.unfinished:
        done += f", {summary.unfinished} not run"
    return (
        ("dataset", f"{manifest['dataset']}, {len(manifest['classes'])} classes"),
        *((f"task {task}", f"{len(classes)} classes") for task, classes in manifest.get("tasks", {}).items()),
        ("examples", ", ".join(f"{size:,} {split}" for split, size in sizes.items())),
        ("teachers", ", ".join(summary.teacher_names) or numerals.DASH),
        ("students", f"{len(summary.student_names)}"),
        ("methods", f"{len(summary.without_repeats().methods)}"),
        ("seeds", ", ".join(map(str, manifest["seeds"]))),
        ("records", done),
    )


def _nulls(summary: Summary) -> Facts:
    """Return each reason for a missing number with the columns it holds for; failures are told elsewhere."""
    finished = [row for row in summary.rows if row.seeds]
    columns: dict[str, dict[str, None]] = {}
    for row in finished:
        for name, reasons in row.reasons.items():
            for reason in reasons:
                columns.setdefault(reason, {})[name] = None
    return tuple((reason, ", ".join(names)) for reason, names in columns.items())


def _run(summary: Summary) -> Facts:
    manifest = summary.manifest
    shape = " × ".join(map(str, manifest["input_shape"]))
    stamps = (
        (name.replace("_", " "), ", ".join(_stamped(summary, name)) or numerals.DASH) for name in STAMPS
    )
    return (
        ("suite", manifest["suite"]),
        ("started", manifest["started"]),
        ("input shape", shape),
        ("seeds", ", ".join(map(str, manifest["seeds"]))),
        *stamps,
    )


def _stamped(summary: Summary, name: str) -> tuple[str, ...]:
    values = (record.provenance.get(name) for record in summary.records)
    return tuple(dict.fromkeys(str(value) for value in values if value is not None))


def _flat(values: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for key, value in values.items():
        text = _text(value)
        if text:
            yield key.replace("_", " "), text


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return ", ".join(f"{key.replace('_', ' ')} {_text(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return "; ".join(map(_text, value)) or "none"
    return str(value)


def _warnings(summary: Summary) -> Iterable[str]:
    for name in ("data_checksum", "device", "precision", "git"):
        values = _stamped(summary, name)
        if len(values) > 1:
            yield f"Records differ in {name.replace('_', ' ')}: {', '.join(values)}."
    machine = summary.manifest["machine"]
    stamps = [record.provenance.get("machine") for record in summary.records]
    other = sum(1 for stamp in stamps if stamp and _hardware(stamp) != _hardware(machine))
    if other:
        yield f"{other} of {len(stamps)} records come from another machine than the one that is listed."


def _hardware(machine: Mapping[str, Any]) -> tuple[Any, Any]:
    return machine.get("cpu"), machine.get("gpus") or []
