"""Examples on which compression changes the prediction for good: compression identified exemplars (PIE).

One retrained model disagrees with another on many examples by chance. What a *population* of compressed
models says differently from a population of teachers is due to the compression. Hooker et al. 2019, arXiv
1911.05248.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kdbench.analysis.outcomes import NotStored, Outcomes
from kdbench.printable import counted
from kdbench.store import Record, RunDirectory, content_id

# The mode of two is either of them: three is the fewest of which most can agree.
FEWEST = 3


@dataclass(frozen=True)
class Pie:
    """Two populations of models on one test split; what is not defined is None.

    ``fraction`` is the share of examples that are PIE; ``on`` and ``off`` are the mean accuracies of the
    members of each population on the PIE and on the others.
    """

    fraction: float
    teacher_on: float | None
    teacher_off: float | None
    student_on: float | None
    student_off: float | None


@dataclass(frozen=True)
class RunPie:
    """The PIE of one (teacher population, student, method) of a run, or why there is none."""

    teachers: tuple[str, ...]
    student: str | None
    method: str | None
    students: int
    pie: Pie | None
    reason: str | None = None


def modal_labels(predictions: np.ndarray) -> np.ndarray:
    """Return the most frequent class of each example (N,) over the models (P, N); of equals the lowest.

    >>> modal_labels(np.array([[1, 0], [1, 2], [0, 1]])).tolist()
    [1, 0]
    """
    classes = int(predictions.max()) + 1
    votes = np.zeros((classes, predictions.shape[1]), dtype=np.int64)
    for row in predictions:
        votes[row, np.arange(len(row))] += 1
    return votes.argmax(axis=0)


def pie(teachers: np.ndarray, students: np.ndarray, labels: np.ndarray) -> Pie:
    """Return the PIE: the examples whose modal label differs between two populations.

    Shapes: predicted classes (P, N) and (Q, N), with P and Q at least 3, and labels (N,), N > 0. Raises
    ValueError for others. Source: Hooker et al. 2019.
    """
    shapes = (teachers.shape, students.shape, labels.shape)
    if teachers.ndim != 2 or students.ndim != 2 or {shape[-1] for shape in shapes} != {len(labels)}:
        raise ValueError(f"predictions and labels have shapes {shapes}, expected (P, N), (Q, N) and (N,)")
    if min(len(teachers), len(students)) < FEWEST or not len(labels):
        raise ValueError(
            f"shapes {shapes}: each population needs {FEWEST} models, and there must be examples"
        )
    changed = modal_labels(teachers) != modal_labels(students)

    def accuracy(population: np.ndarray, where: np.ndarray) -> float | None:
        return float((population == labels)[:, where].mean()) if where.any() else None

    return Pie(
        fraction=float(changed.mean()),
        teacher_on=accuracy(teachers, changed),
        teacher_off=accuracy(teachers, ~changed),
        student_on=accuracy(students, changed),
        student_off=accuracy(students, ~changed),
    )


def pies_of_run(run: RunDirectory) -> list[RunPie]:
    """Return the PIE of every student and method of a run, with the reason where it is not defined.

    A teacher population are the teachers of a run that differ in their seed only; the students that belong
    to it are those of all its teachers and all seeds. Both need 3 members, and the classes that they predict.
    """
    done = [record for record in run.records() if record.status == "ok"]
    outcomes = Outcomes(run, done)
    populations: dict[str, list[Record]] = {}
    for record in done:
        if record.role == "teacher":
            alike = {key: value for key, value in record.config.items() if key != "seed"}
            populations.setdefault(content_id(alike), []).append(record)
    pies = []
    for teachers in populations.values():
        labels = {record.teacher for record in teachers}
        groups: dict[tuple[str | None, str | None], list[Record]] = {}
        for record in done:
            if record.role == "student" and record.teacher in labels:
                groups.setdefault((record.student, record.method), []).append(record)
        pies += [_of_group(outcomes, teachers, *key, members) for key, members in groups.items()]
    return pies


def _of_group(
    outcomes: Outcomes,
    teachers: list[Record],
    student: str | None,
    method: str | None,
    students: list[Record],
) -> RunPie:
    names = tuple(record.teacher for record in teachers)
    # A method without a teacher makes the same student beside each of them: it counts once.
    students = list({_weights(record): record for record in students}.values())
    for role, count in (("teacher", len(teachers)), ("student", len(students))):
        if count < FEWEST:
            reason = (
                f"a population needs {FEWEST} models that differ in their training: "
                f"there is {counted(count, role)}"
            )
            return RunPie(names, student, method, len(students), None, reason)
    try:
        ours, theirs = (
            np.stack([outcomes.predicted(record.id) for record in records])
            for records in (teachers, students)
        )
        labels = outcomes.labels(students[0].id)
    except NotStored as missing:
        return RunPie(names, student, method, len(students), None, str(missing))
    return RunPie(names, student, method, len(students), pie(ours, theirs, labels))


def _weights(record: Record) -> str:
    """Return the checksum of a student's weights, or its id where none is recorded."""
    return str(record.files.get(record.weights() or "", {}).get("sha256", record.id))
