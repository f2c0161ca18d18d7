"""Methods over several tasks, of one run or of many: ranks, interquartile means, how often one betters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kdbench.analysis.aggregate import (
    interquartile_mean,
    mean_probability_of_improvement,
    relative_improvement,
)
from kdbench.analysis.comparison import CONTROL
from kdbench.analysis.intervals import Interval, critical_t, is_constant, no_value
from kdbench.analysis.ranks import Ranking, rank_methods
from kdbench.analysis.rows import Row
from kdbench.analysis.summary import Summary
from kdbench.column import unknown_column
from kdbench.errors import UserError, unknown
from kdbench.store import canonical_json

# What the average relative improvement is measured against, as in the paper that uses it.
REFERENCE = "kd"


@dataclass(frozen=True)
class Task:
    """A student of a teacher on a dataset: what methods are ranked on. ``rows`` is by method."""

    suite: str
    dataset: str
    teacher: str
    student: str
    rows: Mapping[str, Row]


@dataclass(frozen=True)
class Standing:
    """A method over all tasks; ``ari_reason`` says why ARI is None, or why it is not to be relied on."""

    method: str
    mean_rank: float
    iqm: Interval
    improvement: Interval
    ari: float | None
    ari_reason: str | None


@dataclass(frozen=True)
class Standings:
    """Methods by mean rank over ``tasks``, judged by ``metric``.

    ``by_dataset`` is the ranking with each dataset counted once, where there are several. ``left_out`` says
    which methods and tasks are not ranked, and ``cautions`` what else may mislead.
    """

    metric: str
    baseline: str
    tasks: tuple[Task, ...]
    datasets: tuple[str, ...]
    ranking: Ranking
    by_dataset: Ranking | None
    rows: tuple[Standing, ...]
    left_out: tuple[str, ...]
    cautions: tuple[str, ...]


def standings(summaries: Sequence[Summary], metric: str | None = None, baseline: str = CONTROL) -> Standings:
    """Return how the methods stand over the students of all runs; a task is one student of one teacher.

    Ranked are the methods that more than half of the tasks have, on the tasks that have all of them, by the
    mean over seeds, by default of the headline metric. Where there is nothing to rank, ``ranking`` says why.

    Raises UserError for a run that is given twice, for runs that hold the same cells, for an unknown metric
    or baseline, and for runs of other headlines where no metric is named.
    """
    metric = metric or _shared_headline(summaries)
    _refuse_mistakes(summaries, metric, baseline)
    direction = summaries[0].columns[metric].direction
    sign = -1.0 if direction == "lower" else 1.0
    candidates = [task for summary in summaries for task in _tasks(summary, metric)]
    _refuse_repetitions(summaries)
    methods, tasks = _complete(candidates) if direction != "none" else ([], [])
    means = sign * np.array([[_mean(task, name, metric) for name in methods] for task in tasks])
    ranking = rank_methods(means, methods) if tasks else _no_ranking(metric, direction, candidates, methods)
    datasets = tuple(dict.fromkeys(task.dataset for task in tasks))
    several = 1 < len(datasets) < len(tasks)
    return Standings(
        metric=metric,
        baseline=baseline,
        tasks=tuple(tasks),
        datasets=datasets,
        ranking=ranking,
        by_dataset=_by_dataset(means, tasks, datasets, methods) if several else None,
        rows=tuple(
            _standing(method, rank, tasks, metric, baseline, sign)
            for method, rank in zip(ranking.methods, ranking.mean_ranks, strict=True)
        ),
        left_out=tuple(_left_out(candidates, tasks, methods)) if tasks else (),
        cautions=tuple(_cautions(summaries, methods)),
    )


def _shared_headline(summaries: Sequence[Summary]) -> str:
    headlines = list(dict.fromkeys(summary.headline for summary in summaries))
    if len(headlines) > 1:
        raise UserError(f"the runs are judged by {' and '.join(headlines)}: name one metric that all have.")
    return headlines[0]


def _refuse_mistakes(summaries: Sequence[Summary], metric: str, baseline: str) -> None:
    paths = [summary.run.path.resolve() for summary in summaries]
    for summary, path in zip(summaries, paths, strict=True):
        if metric not in summary.columns:
            raise unknown_column(metric, summary.columns)
        if paths.count(path) > 1:
            raise UserError(f"{summary.run.path} is given twice: a run counts once.")
    methods = {method for summary in summaries for method in summary.methods}
    if baseline != CONTROL and baseline not in methods:
        raise unknown("baseline", baseline, methods)


def _refuse_repetitions(summaries: Sequence[Summary]) -> None:
    """Refuse runs of the same cells: a student that counts twice would be evidence that nobody has.

    They are the same by their labels, whatever their seeds, or by their ids, whatever they are called.
    """
    owners: dict[tuple[str | None, ...], Summary] = {}
    for summary in summaries:
        shared = []
        for row in summary.measured:
            cell = (summary.manifest["dataset"], row.teacher, row.student, row.method)
            names = [cell, *((id,) for id in row.ids.values())]
            others = [other for name in names if (other := owners.setdefault(name, summary)) is not summary]
            if others:
                shared.append((others[0], cell))
        if shared:
            other, (dataset, _, student, method) = shared[0]
            first, second = other.run.path, summary.run.path
            more = f" and {len(shared) - 1:,} more" if len(shared) > 1 else ""
            raise UserError(
                f"{first} and {second} hold the same cells ({student} with {method} on {dataset}{more}): "
                "ranks count each student once. Give runs of other students, teachers or "
                f"datasets, or print the two one by one: kdbench compare {first}; kdbench compare {second}."
            )


def _no_ranking(metric: str, direction: str, candidates: Sequence[Task], methods: Sequence[str]) -> Ranking:
    reason = f"{metric} cannot be ranked: neither higher nor lower is better"
    if direction != "none":
        shared = ", ".join(methods) or "none"
        students = f"{len(candidates)} students with {metric}"
        reason = f"of {students}, more than half share no two methods ({shared})"
        if len({task.suite for task in candidates}) > 1:
            reason += "; methods are matched by their labels: give one method the same label in every suite"
    return Ranking((), (), 0, reason=reason)


def _tasks(summary: Summary, metric: str) -> Iterable[Task]:
    manifest = summary.manifest
    groups: dict[tuple[str, str], dict[str, Row]] = {}
    for row in summary.students:
        if row.method in summary.repeats:
            continue  # a control is no method to be ranked
        if row.mean(metric) is not None and row.method is not None and row.student is not None:
            groups.setdefault((row.teacher, row.student), {})[row.method] = row
    for (teacher, student), rows in groups.items():
        yield Task(manifest["suite"], manifest["dataset"], teacher, student, rows)


def _mean(task: Task, method: str, metric: str) -> float:
    mean = task.rows[method].mean(metric)
    assert mean is not None  # a task holds no other rows
    return mean


def _complete(tasks: Sequence[Task]) -> tuple[list[str], list[Task]]:
    """Return the methods that most tasks have, and the tasks that have them all."""
    counts = Counter(method for task in tasks for method in task.rows)
    methods = [method for method, count in counts.items() if 2 * count > len(tasks)]
    if len(methods) < 2:
        return methods, []
    return methods, [task for task in tasks if all(method in task.rows for method in methods)]


def _by_dataset(
    means: NDArray[np.float64], tasks: Sequence[Task], datasets: Sequence[str], methods: Sequence[str]
) -> Ranking:
    owners = np.array([task.dataset for task in tasks])
    return rank_methods(np.array([means[owners == name].mean(axis=0) for name in datasets]), methods)


def _standing(
    method: str, rank: float, tasks: Sequence[Task], metric: str, baseline: str, sign: float
) -> Standing:
    scores = [np.array(list(task.rows[method].values[metric].values())) for task in tasks]
    ari, reason = _ari(method, tasks, metric, sign)
    return Standing(
        method=method,
        mean_rank=rank,
        iqm=interquartile_mean(scores),
        improvement=_improvement(method, baseline, tasks, metric, sign),
        ari=ari,
        ari_reason=reason,
    )


def _improvement(method: str, baseline: str, tasks: Sequence[Task], metric: str, sign: float) -> Interval:
    if method == baseline:
        return no_value(f"it is {baseline}")
    if any(baseline not in task.rows for task in tasks):
        return no_value(f"not every student has {baseline}")
    pairs = []
    for task in tasks:
        ours, theirs = (task.rows[name].values[metric] for name in (method, baseline))
        seeds = sorted(ours.keys() & theirs.keys())
        if not seeds:
            return no_value(f"{task.student}: no finished seed in common with {baseline}")
        pairs.append(sign * np.array([(ours[seed], theirs[seed]) for seed in seeds]))
    return mean_probability_of_improvement(pairs)


def _ari(method: str, tasks: Sequence[Task], metric: str, sign: float) -> tuple[float | None, str | None]:
    """Return ARI over the plain ``kd``, and why there is none or why it is unstable."""
    if method in (CONTROL, REFERENCE):
        return None, "ARI compares other methods with kd"
    if any(name not in task.rows for task in tasks for name in (CONTROL, REFERENCE)):
        return None, f"ARI needs {CONTROL} and {REFERENCE} for every student"
    ours, reference, control = (
        [sign * _mean(task, name, metric) for task in tasks] for name in (method, REFERENCE, CONTROL)
    )
    gains = dict(zip([task.student for task in tasks], np.subtract(reference, control), strict=True))
    losing = [student for student, gain in gains.items() if gain <= 0]
    if losing:
        return None, f"ARI has no meaning: {REFERENCE} gains nothing over {CONTROL} for {', '.join(losing)}"
    unsure = [task.student for task in tasks if not _gain_is_shown(task, metric)]
    reason = (
        f"ARI is unstable: what kd gains is not told from zero for {', '.join(unsure)}" if unsure else None
    )
    return relative_improvement(ours, reference, control), reason


def _gain_is_shown(task: Task, metric: str) -> bool:
    """Return whether the 95 % interval of what kd gains over scratch leaves out zero."""
    ours, theirs = (task.rows[name].values[metric] for name in (REFERENCE, CONTROL))
    gains = np.array([ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())])
    if len(gains) < 2 or is_constant(gains, scale=1.0):
        return False
    half = critical_t(len(gains)) * gains.std(ddof=1) / np.sqrt(len(gains))
    return bool(abs(gains.mean()) > half)


def _left_out(candidates: Sequence[Task], tasks: Sequence[Task], methods: Sequence[str]) -> Iterable[str]:
    others = dict.fromkeys(method for task in candidates for method in task.rows if method not in methods)
    if others:
        yield f"Not ranked, as at least half of the students lack them: {', '.join(others)}."
    rest = [f"{task.student} of {task.teacher} ({task.suite})" for task in candidates if task not in tasks]
    if rest:
        yield f"Left out, as they lack a ranked method: {', '.join(rest)}."


def _cautions(summaries: Sequence[Summary], methods: Sequence[str]) -> Iterable[str]:
    settings: dict[str, set[str]] = {method: set() for method in methods}
    for record in (record for summary in summaries for record in summary.records):
        config = record.config.get("method")
        if record.method in settings and config is not None:
            settings[record.method].add(canonical_json(config))
    differing = [method for method, variants in settings.items() if len(variants) > 1]
    if differing:
        yield f"The settings of {', '.join(differing)} differ between the students."
