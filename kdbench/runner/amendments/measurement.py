"""The measurement of a teacher and its students: taken once, kept in the run, stated and counted as today."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kdbench.efficiency import CostReport, ModelJob, Protocol, measure
from kdbench.efficiency.columns import columns
from kdbench.efficiency.places import Dimensions, split_threads
from kdbench.efficiency.restating import FOOTING, restate
from kdbench.efficiency.samples import read_samples
from kdbench.models.index import counter_fingerprint
from kdbench.plan import Node, Plan, Training
from kdbench.plan.code import refuse_edited
from kdbench.progress import Progress
from kdbench.runner.amendments.deployment import Deployed, Deployments, dense
from kdbench.store import RunDirectory, content_id
from kdbench.suite.measurements import MeasureEntry


@dataclass(frozen=True)
class Measured:
    """The costs of one teacher and its students, by the label of the model.

    ``macs`` are the multiply-adds of one example of every model that trained for them, as far as known, by
    what identifies it.
    """

    id: str
    metrics: Mapping[str, Mapping[str, float | None]]
    reasons: Mapping[str, Mapping[str, str]]
    macs: Mapping[str, float | None]
    deployments: Deployments


def protocol_of(entry: MeasureEntry) -> Protocol:
    """Return the timing protocol that a suite asks for; without latency only counts are taken."""
    fields = entry.model_dump()
    latency, threads = fields.pop("latency"), fields.pop("threads")
    own, further = split_threads(threads) if isinstance(threads, tuple) else (threads, ())
    kinds = {name: fields.pop(name) for name in ("runtimes", "precisions", "memory", "energy")}
    fields |= {"threads": own, "dimensions": Dimensions(threads=further, **kinds)}
    return Protocol(**fields) if latency else Protocol(**fields, devices=())


def measured(plan: Plan, teacher: Node, run: RunDirectory, progress: Progress) -> Measured:
    """Measure a teacher and its students, or read what was measured before under the same settings.

    What was timed before is stated as it is today, and counted anew where the code that counts has changed.
    """
    deployments = Deployments(plan, teacher, run)
    models = list(deployments.by_label.values())
    jobs = [model.job() for model in models]
    # Assistants and the like are nobody's deployment: they are counted, for what training took, not timed.
    trained = _trained(plan, teacher)
    measured_too = {model.identity for model in models}
    others = [model.job() for identity, model in trained.items() if identity not in measured_too]
    protocol = protocol_of(plan.suite.measure)
    key: dict[str, Any] = {
        "models": [model.key() for model in models],
        "input_shape": plan.inputs.image_shape or plan.inputs.as_json(),
        "classes": sum(plan.outputs.values()),
        "protocol": protocol.as_json(),
    }
    if parameters := {model.label: model.parameters for model in models if model.parameters}:
        key["parameters"] = parameters
    if others:
        key["trained"] = sorted(set(trained) - measured_too)
    id = content_id(key)
    meter = _Meter(plan, teacher.label, progress)
    content = run.cost(id)
    if content is None:
        content = _write(run, id, meter.take(jobs, protocol), meter.macs(others))
    if content.get("footing") != FOOTING:
        content = restate(content, read_samples(run.samples(id)))
        run.write_cost(id, content)
    if content.get("counter") != counter_fingerprint():
        counted = meter.take(jobs, Protocol(devices=()))
        content = _counted_anew(content, counted, meter.macs(others))
        run.write_cost(id, content)
    own = {model.identity: content["metrics"][model.label]["macs"] for model in models}
    return Measured(id, content["metrics"], content["reasons"], own | content.get("trained", {}), deployments)


def _trained(plan: Plan, teacher: Node) -> dict[str, Deployed]:
    """Return every model that trained, or taught, for the students of a teacher, by what identifies it."""
    nodes = [cell.node for cell in plan.cells if cell.node.origin is teacher and not cell.refusal]
    family = {one.id: one for node in nodes for one in node.own_trainings}
    taught = {one.teacher.id: one.teacher for one in family.values() if one.teacher}
    models = (dense(node) for node in (family | taught).values() if isinstance(node.step, Training))
    named = {model.identity: model for model in models}
    return {identity: replace(model, label=identity) for identity, model in named.items()}


class _Meter:
    """Measures models of a plan; never what is in a file that was edited since the plan was made."""

    def __init__(self, plan: Plan, reference: str, progress: Progress) -> None:
        self._plan = plan
        self._reference = reference
        self._progress = progress

    def take(self, jobs: Sequence[ModelJob], protocol: Protocol, reference: str | None = None) -> CostReport:
        """Measure models against the teacher."""
        refuse_edited(self._plan)
        report = measure(
            jobs,
            inputs=self._plan.inputs,
            num_classes=sum(self._plan.outputs.values()),
            reference=reference or self._reference,
            protocol=protocol,
            progress=self._progress,
        )
        refuse_edited(self._plan)
        return report

    def macs(self, jobs: Sequence[ModelJob]) -> dict[str, float | None]:
        """Count the multiply-adds of models that are not timed."""
        if not jobs:
            return {}
        report = self.take(jobs, Protocol(devices=()), jobs[0].label)
        return {label: values["macs"] for label, values in report.metrics.items()}


def _counted_anew(
    content: dict[str, Any], report: CostReport, trained: Mapping[str, float | None]
) -> dict[str, Any]:
    """Return the content of a cost file with the counts that the code of today gives; timings stay."""
    names = {column.name for column in columns(())}
    counts: dict[str, dict[str, dict[str, Any]]] = {
        "metrics": {label: dict(values) for label, values in report.metrics.items()},
        "reasons": {label: dict(texts) for label, texts in report.reasons.items()},
    }
    for kind, by_label in counts.items():
        for label, values in by_label.items():
            kept = {name: value for name, value in content[kind][label].items() if name not in names}
            by_label[label] = {name: value for name, value in values.items() if name in names} | kept
    conditions = content["conditions"] | {"counts": report.conditions["counts"]}
    return (
        content
        | counts
        | {
            "conditions": conditions,
            "counter": counter_fingerprint(),
            "trained": dict(trained),
        }
    )


def _write(
    run: RunDirectory, id: str, report: CostReport, trained: Mapping[str, float | None]
) -> dict[str, Any]:
    """Write what was measured, and return it."""
    content = {
        "metrics": report.metrics,
        "intervals": report.intervals,
        "reasons": report.reasons,
        "conditions": report.conditions,
        "footing": FOOTING,
        "counter": counter_fingerprint(),
        "trained": dict(trained),
    }
    run.write_cost(id, content, report.samples.to_parquet(index=False))
    written = run.cost(id)
    assert written is not None
    return written
