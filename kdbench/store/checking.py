"""What is wrong in a run directory: what is not finished, what failed, what is damaged."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from kdbench.column import Column
from kdbench.errors import SharedFault
from kdbench.store.record import HOMES, RECORD, Record, named
from kdbench.store.run import COLUMNS, SUITE, RunDirectory, problem_of

T = TypeVar("T")
# What a metric may be outside of its range by rounding.
SLACK = 1e-6
# How the names of weights and logits end, which a published run lacks.
WEIGHTS = ".safetensors"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong in a run directory; ``what`` names the teacher or the cell that it is about."""

    path: str
    problem: str
    what: str = ""


def check(path: str | Path, *, records_only: bool = False) -> list[Finding]:
    """Return what is wrong in a run directory: unfinished or failed cells, files missing or changed.

    Assistants, independent teachers, costs and the files of earlier plans are checked like those of the plan.
    With ``records_only`` the weights and logits may be absent (as in a published run); what is there is
    checked all the same.
    """
    run = RunDirectory.open(path)
    manifest = run.manifest()
    seen = _Seen()
    columns = seen.of(COLUMNS, run.columns) or {}
    if problem := run.suite_problem():
        seen.findings.append(Finding(SUITE, problem))
    plan = dict.fromkeys((*manifest["teachers"], *manifest.get("supporting", []), *manifest["cells"]))
    costs: set[str] = set()
    waiting = list(dict.fromkeys((*plan, *run.lying())))
    for id in waiting:
        place = f"{HOMES[0]}/{id}"
        record = seen.of(f"{place}/{RECORD}", partial(run.record, id))
        if record:
            if record.status == "failed" and id in plan:
                seen.findings.append(Finding(record.place, f"failed: {record.outcome}", record.named))
            seen.findings += _about(run, record, columns, records_only)
            costs |= {record.cost_id} if record.cost_id else set()
            # The manifest of a run from before it named what rows rest on does not.
            new = [other for other in record.rests_on if id in plan and other not in plan]
            plan |= dict.fromkeys(new)
            waiting += [other for other in new if other not in waiting]
        elif record is None and id in plan:
            labels = manifest.get("labels", {}).get(id, {})
            seen.findings.append(Finding(place, f"not finished: it has no {RECORD}", named(labels)))
    for id in sorted(costs):
        place = f"costs/{id}/cost.json"
        if seen.of(place, partial(run.cost, id)) is None:
            seen.findings.append(Finding(place, "missing, though records rest on it"))
    return seen.findings


class _Seen:
    """The findings, and what could be read."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []

    def of(self, place: str, read: Callable[[], T]) -> T | Literal[False]:
        """Return what is read, and False where that is damaged, which is a finding."""
        try:
            return read()
        except SharedFault as fault:
            self.findings.append(Finding(place, str(fault)))
            return False


def missing_weights(run: RunDirectory, ids: Iterable[str]) -> list[str]:
    """Return which weights and logits of finished nodes are not there, in a published run, which has none.

    Raises SharedFault where another file of theirs is missing, or one of several, or any is not what was
    recorded.
    """
    records = list(run.existing(ids))
    files = [(record, name) for record in records for name in record.files]
    published = not any(name.endswith(WEIGHTS) and run.holds(record, name) for record, name in files)
    missing = []
    for record, name in files:
        if published and name.endswith(WEIGHTS):
            missing.append(f"{record.place}/{name}")
        else:
            run.recorded_file(record, name)
    return missing


def _about(
    run: RunDirectory, record: Record, columns: Mapping[str, Column], records_only: bool
) -> Iterator[Finding]:
    if record.status == "ok" and not record.metrics:
        yield Finding(record.place, "damaged: it is finished and has no metrics", record.named)
    for name, value in record.metrics.items():
        low, high = columns[name].bounds if name in columns else (-math.inf, math.inf)
        if value is not None and not low - SLACK <= value <= high + SLACK:
            told = f"damaged: {name} is {value:g}, outside {columns[name].range}"
            yield Finding(record.place, told, record.named)
    for name, expected in record.files.items():
        where = f"{record.place}/{name}"
        try:
            file = run.inside(record.home, record.id, name)
        except SharedFault as fault:
            yield Finding(where, str(fault), record.named)
            continue
        unpublished = records_only and file.suffix == WEIGHTS and not file.is_file()
        problem = None if unpublished else problem_of(file, expected)
        if problem:
            yield Finding(where, problem, record.named)
