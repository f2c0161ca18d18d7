"""What the models of a run cost: measured once for each teacher and its students, in one session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kdbench.column_names import is_timing
from kdbench.efficiency import CostReport, ModelJob, Protocol, measure
from kdbench.efficiency.columns import columns
from kdbench.efficiency.places import Dimensions, split_threads
from kdbench.efficiency.restating import FOOTING, restate
from kdbench.efficiency.samples import read_samples
from kdbench.models.index import counter_fingerprint
from kdbench.models.registry import source_of
from kdbench.plan import Plan, TeacherPlan
from kdbench.plan.code import refuse_edited
from kdbench.progress import Progress
from kdbench.runner.scores import Scores
from kdbench.store import RunDirectory, content_id, read_json, write_atomic, write_json
from kdbench.suite.measurements import MeasureEntry
from kdbench.suite.references import is_code
from kdbench.suite.schema import ModelEntry

# Filled from a student's own weights and method, not from the measurement of its architecture.
OF_THE_CELL = ("params_nonzero", "params_trainable", "params_adapter", "params_training")
NOT_KEPT = "the record was written before kdbench counted it"


@dataclass(frozen=True)
class Measured:
    """The costs of one teacher and its students, by the label of the model."""

    id: str
    metrics: dict[str, dict[str, float | None]]
    reasons: dict[str, dict[str, str]]


class Costs:
    """The costs of every model of a run, by teacher."""

    def __init__(self, by_teacher: dict[str, Measured]) -> None:
        """Take what was measured for each teacher, by its label."""
        self._by_teacher = by_teacher

    def id(self, teacher: str) -> str:
        """Return the id of the measurement that a teacher's students were part of."""
        return self._by_teacher[teacher].id

    def hold_for(self, record: Mapping[str, Any], teacher: str, model: ModelEntry) -> bool:
        """Return whether a record holds the costs of its model as they are today."""
        metrics = self._by_teacher[teacher].metrics[model.shown]
        names = metrics.keys() - set(OF_THE_CELL)
        same = all(record["metrics"].get(name) == metrics[name] for name in names)
        return same and record.get("cost_id") == self.id(teacher)

    def add_to(self, scores: Scores, teacher: str, model: ModelEntry) -> None:
        """Add a model's costs, as measured beside a teacher, to its scores."""
        measured = self._by_teacher[teacher]
        metrics, reasons = measured.metrics[model.shown], measured.reasons[model.shown]
        # What was measured before, perhaps at other batch sizes, was not measured together with this.
        for known in (scores.metrics, scores.reasons):
            for name in list(filter(is_timing, known)):
                del known[name]
        # A number that was missing before has no reason any more.
        for name in metrics.keys() - set(OF_THE_CELL):
            scores.reasons.pop(name, None)
        own = {name: scores.metrics.get(name) for name in OF_THE_CELL}
        reasons = {name: text for name, text in reasons.items() if name not in OF_THE_CELL}
        unknown = [name for name, value in own.items() if value is None]
        reasons |= {name: scores.reasons.get(name, NOT_KEPT) for name in unknown}
        scores.add({**metrics, **own}, reasons)


def measure_costs(plan: Plan, directory: RunDirectory, progress: Progress) -> Costs:
    """Measure every model of a plan, or read what was measured before under the same settings.

    What was timed before is stated as it is today, and counted anew where the code that counts has changed.
    """
    return Costs({teacher.label: _measured(plan, teacher, directory, progress) for teacher in plan.teachers})


def measured_together(plan: Plan, teacher: TeacherPlan) -> dict[str, ModelEntry]:
    """Return a teacher and what its students keep at inference, by label; each is measured once.

    A student with the teacher's label is the same architecture.
    """
    kept = {
        cell.inference.shown: cell.inference
        for cell in plan.cells
        if cell.teacher == teacher.label and not cell.refusal
    }
    return {teacher.label: teacher.entry} | kept


def protocol_of(entry: MeasureEntry) -> Protocol:
    """Return the timing protocol that a suite asks for; without latency only counts are taken."""
    fields = entry.model_dump()
    latency, threads = fields.pop("latency"), fields.pop("threads")
    own, further = split_threads(threads) if isinstance(threads, tuple) else (threads, ())
    kinds = {name: fields.pop(name) for name in ("runtimes", "precisions", "memory", "energy")}
    fields |= {"threads": own, "dimensions": Dimensions(threads=further, **kinds)}
    return Protocol(**fields) if latency else Protocol(**fields, devices=())


def _measured(
    plan: Plan,
    teacher: TeacherPlan,
    directory: RunDirectory,
    progress: Progress,
) -> Measured:
    entries = measured_together(plan, teacher)
    jobs = [ModelJob(label, entry.reference, entry.args) for label, entry in entries.items()]
    protocol = protocol_of(plan.suite.measure)
    key: dict[str, Any] = {
        "models": [[label, entry.name, entry.args, *_sources(entry)] for label, entry in entries.items()],
        "input_shape": plan.input_shape,
        "classes": plan.outputs,
        "protocol": protocol.as_json(),
    }
    if parameters := _parameters(plan, teacher):
        key["parameters"] = parameters
    id = content_id(key)
    folder = directory.path / "costs" / id
    file = folder / "cost.json"
    if not file.is_file():
        # Not what is in an edited file meanwhile, under the id of what was there when the plan was made.
        refuse_edited(plan)
        report = measure(
            jobs,
            input_shape=plan.input_shape,
            num_classes=plan.outputs,
            reference=teacher.label,
            protocol=protocol,
            progress=progress,
        )
        refuse_edited(plan)
        _write(directory, id, report)
    content = read_json(file)
    if content.get("footing") != FOOTING:
        content = restate(content, read_samples(folder / "latency.parquet"))
        write_json(file, content)
    if content.get("counter") != counter_fingerprint():
        refuse_edited(plan)
        content = _counted_anew(content, jobs, plan, teacher.label, progress)
        refuse_edited(plan)
        write_json(file, content)
    return Measured(id, content["metrics"], content["reasons"])


def _sources(entry: ModelEntry) -> list[str]:
    """Return the fingerprints of a user's own code behind a model, or what a method made it from."""
    names = [entry.reference]
    if entry.name.startswith("kdbench."):
        names = [value for value in entry.args.values() if isinstance(value, str) and is_code(value)]
    return [source for name in names if (source := source_of(name))]


def _parameters(plan: Plan, teacher: TeacherPlan) -> dict[str, str]:
    """Return what identifies the parameters of the models that are a user's own code, by label."""
    configs = {teacher.label: teacher.config["model"]}
    configs |= {cell.student: cell.config["student"] for cell in plan.cells if cell.teacher == teacher.label}
    return {label: config["parameters"] for label, config in configs.items() if "parameters" in config}


def _counted_anew(
    content: dict[str, Any], jobs: list[ModelJob], plan: Plan, reference: str, progress: Progress
) -> dict[str, Any]:
    """Return the content of a cost file with the counts that the code of today gives; timings stay."""
    report = measure(
        jobs,
        input_shape=plan.input_shape,
        num_classes=plan.outputs,
        reference=reference,
        protocol=Protocol(devices=()),
        progress=progress,
    )
    names = {column.name for column in columns(())}
    found: dict[str, dict[str, dict[str, Any]]] = {
        "metrics": {label: dict(values) for label, values in report.metrics.items()},
        "reasons": {label: dict(texts) for label, texts in report.reasons.items()},
    }
    for kind, by_label in found.items():
        for label, values in by_label.items():
            kept = {name: value for name, value in content[kind][label].items() if name not in names}
            by_label[label] = {name: value for name, value in values.items() if name in names} | kept
    conditions = content["conditions"] | {"counts": report.conditions["counts"]}
    return content | found | {"conditions": conditions, "counter": counter_fingerprint()}


def _write(directory: RunDirectory, id: str, report: CostReport) -> None:
    folder = directory.path / "costs" / id
    write_atomic(folder / "latency.parquet", report.samples.to_parquet(index=False))
    write_json(
        folder / "cost.json",
        {
            "metrics": report.metrics,
            "intervals": report.intervals,
            "reasons": report.reasons,
            "conditions": report.conditions,
            "footing": FOOTING,
            "counter": counter_fingerprint(),
        },
    )
