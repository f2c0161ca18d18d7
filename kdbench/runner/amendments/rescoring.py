"""Re-scoring: every metric of a run anew from its stored predictions, without training.

What predictions do not hold (costs, training time, what a method tells of itself) stays as it was recorded.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace
from pathlib import Path
from typing import Any

from kdbench import machine
from kdbench.errors import UserError
from kdbench.heads import PRIMARY, name_in
from kdbench.methods import methods
from kdbench.metrics import catalogue
from kdbench.metrics.registry import ordered
from kdbench.progress import Progress, Steps
from kdbench.runner.amendments.independent import NAMES, SavedLogits
from kdbench.runner.predictions import ByHead, read_labels, read_predictions, write_outcomes
from kdbench.runner.records import now
from kdbench.runner.scores import (
    BEST,
    Scores,
    SoftTargets,
    best_columns,
    head_columns,
    score_predictions,
    soft_targets_of,
)
from kdbench.store import (
    OUTCOMES,
    PREDICTIONS,
    Fingerprints,
    Record,
    RunDirectory,
    write_results,
)
from kdbench.suite import own_of
from kdbench.targets import USUAL, Target, find_target


def rescore(path: str | Path, progress: Progress | None = None) -> int:
    """Score every finished teacher, assistant and cell of a run again, and return how many there were.

    Each record is amended atomically, after all of them were scored; its other files, and their checksums,
    stay. What is scored against an independent teacher is scored anew too. The columns of metrics that the
    run did not know are added to ``columns.json``, and the outcomes of records that were written before
    there were any.

    Raises:
        UserError: where predictions are missing (as in a published run) or changed since they were
            recorded, or another process works on the run; nothing is changed then.
    """
    run = RunDirectory.open(path)
    for record in _finished(run):
        _require_predictions(run, record)
    with run.lock():
        done = _finished(run)
        target = find_target(run.manifest().get("target", USUAL))
        known, saved = {record.id for record in done}, SavedLogits(run)
        scored = []
        with Steps(progress or Progress(), "scoring again", len(done), "record") as steps:
            for record in done:
                scored.append(_scored(run, record, known, saved, target))
                steps.step()
        _write_columns(run, target)
        for record, changes in zip(done, scored, strict=True):
            run.amend(record, _outcomes(run, record, target), **changes)
        write_results(run)
    return len(scored)


def _finished(run: RunDirectory) -> list[Record]:
    """Return the finished records of the plan, and those that they rest on."""
    return [record for record in (*run.records(), *run.supporting()) if record.status == "ok"]


def _require_predictions(run: RunDirectory, record: Record) -> None:
    for name in (name_in(head, PREDICTIONS) for head in _heads(record)):
        if not run.holds(record, name):
            raise UserError(
                f"{run.path} cannot be scored again: {record.place}/{name} is missing (published runs hold "
                "no predictions). Run the suite to make them."
            )
        run.recorded_file(record, name)


def _heads(record: Record) -> list[str]:
    """Return the heads that a model was trained for, the dataset's own first."""
    return [PRIMARY, *record.config["dataset"].get("heads", {})]


def _scored(
    run: RunDirectory, record: Record, known: Container[str], saved: SavedLogits, target: Target
) -> dict[str, Any]:
    """Return the metrics, reasons and tables that a record's predictions give today, and the stamp of it."""
    teacher: ByHead | None = None
    soft_targets: SoftTargets | None = None
    if record.origin:
        if record.origin not in known:
            raise UserError(
                f"{run.path} cannot be scored again: it holds no finished teacher '{record.teacher}'."
            )
        origin = run.record(record.origin)
        assert origin is not None
        teacher = read_predictions(run, origin, _heads(record))
        soft_targets = _soft_targets(record)
    scores = score_predictions(
        read_predictions(run, record, _heads(record)),
        read_labels(run, record, _heads(record)),
        teacher,
        soft_targets=soft_targets,
        without_best=record.reasons.get(f"{target.headline}{BEST}", "there is no validation split"),
        target=target,
        own=own_of(run.path, "metrics"),
    )
    if teacher and not soft_targets:
        _keep_temperature(scores, record, target)
    reasons = {name: text for name, text in record.reasons.items() if name not in scores.metrics}
    again = replace(record, metrics=record.metrics | scores.metrics, reasons=reasons | scores.reasons)
    other = record.amendments.get("independent")
    if other and NAMES & record.metrics.keys():
        of_other = saved.scores(again, other)
        again.metrics.update(of_other.metrics)
        for name in NAMES:
            again.reasons.pop(name, None)
        again.reasons.update(of_other.reasons)
    stamp = {"kdbench": machine.versions()["kdbench"], "git": machine.git_commit(), "at": now()}
    return {
        "metrics": again.metrics,
        "reasons": again.reasons,
        "tables": record.tables | scores.tables,
        "provenance": record.provenance | {"rescored": stamp},
        "amendments": record.amendments | {"scores": f"{stamp['kdbench']} {stamp['git']}"},
    }


def _outcomes(run: RunDirectory, record: Record, target: Target) -> Fingerprints:
    """Write the outcomes of a record that has none, and return their fingerprint."""
    if OUTCOMES in record.files:
        return {}
    saved = read_predictions(run, record, [PRIMARY]), read_labels(run, record, [PRIMARY])
    return write_outcomes(run.folder(record.id), *saved, target)


def _soft_targets(record: Record) -> SoftTargets | None:
    """Return the soft targets of a student; None where it is not known what they were.

    The code of a user's own method may have changed, and what was not trained has none, as recorded.
    """
    method = record.config.get("method", {})
    hyper = {key: value for key, value in method.items() if key != "name"}
    known = methods().get(method.get("name"))
    if known is None or "method_source" in record.config:
        return None
    return soft_targets_of(known, known.parameters(**hyper), assisted=record.taught_by != record.origin)


def _keep_temperature(scores: Scores, record: Record, target: Target) -> None:
    """Leave what depends on a temperature that is not known as it was recorded."""
    for entry in ordered(target):
        for name in (name_in(head, entry.column.name) for head in _heads(record)):
            if "temperature" in entry.inputs and name in record.metrics:
                del scores.metrics[name]
                scores.reasons.pop(name, None)


def _write_columns(run: RunDirectory, target: Target) -> None:
    """Put today's metrics, in their order, around the columns that only a run fills."""
    own = own_of(run.path, "metrics")
    metrics, best = list(catalogue(target, own).values()), best_columns(target, own)
    further = [column for head in run.manifest().get("heads", {}) for column in head_columns(head)]
    names = {column.name for column in (*metrics, *best, *further)}
    others = [column for name, column in run.columns().items() if name not in names]
    shown = (*metrics, *others, *best, *further)
    run.write_columns(shown)
