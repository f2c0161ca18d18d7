"""PIE: modes against scipy, populations of a run, and what they need."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save_file
from scipy import stats

from kdbench.analysis.pie import RunPie, modal_labels, pie, pies_of_run
from kdbench.store import RunDirectory
from tests.documents import list_files

PREDICTIONS = hnp.array_shapes(min_dims=2, max_dims=2, max_side=8).flatmap(
    lambda shape: hnp.arrays(np.int64, shape, elements=st.integers(0, 4))
)


@given(PREDICTIONS)
def test_modes_are_those_of_scipy(predictions: np.ndarray) -> None:
    assert modal_labels(predictions).tolist() == stats.mode(predictions, axis=0).mode.tolist()


def test_four_examples_by_hand() -> None:
    """Modes: teachers 0 0 1 1, students 0 1 1 0, so that examples 1 and 3 are PIE."""
    teachers = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 1, 0]])
    students = np.array([[0, 1, 1, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    found = pie(teachers, students, np.array([0, 0, 1, 1]))
    assert found.fraction == 0.5
    assert found.teacher_on == pytest.approx(4 / 6)
    assert found.teacher_off == pytest.approx(5 / 6)
    assert found.student_on == pytest.approx(1 / 6)
    assert found.student_off == pytest.approx(5 / 6)


def test_noise_of_single_models_is_no_pie() -> None:
    """Each model errs on an example of its own: every pair disagrees, and the modes agree."""
    same = np.zeros((3, 6), dtype=int)
    students = same.copy()
    students[[0, 1, 2], [0, 1, 2]] = 1
    found = pie(same, students, np.zeros(6, dtype=int))
    assert (found.fraction, found.teacher_on, found.student_on) == (0, None, None)
    assert found.student_off == pytest.approx(15 / 18)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((3, 4), (3, 5), (4,)), r"expected \(P, N\), \(Q, N\) and \(N,\)"),
        (((3,), (3, 4), (4,)), r"expected \(P, N\)"),
        (((2, 4), (3, 4), (4,)), "each population needs 3 models"),
        (((3, 0), (3, 0), (0,)), "there must be examples"),
    ],
)
def test_wrong_shapes(shapes: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pie(*(np.zeros(shape, dtype=int) for shape in shapes))


@pytest.fixture
def found(
    write_records: Callable[..., Path], record: Callable[..., dict[str, Any]]
) -> Callable[..., list[RunPie]]:
    """A function that makes a run with teachers 0, 1, ... and a student of each, and returns its PIE."""

    def make(
        teachers: int, *, lr: tuple[float, ...] = (), stored: bool = True, same_weights: bool = False
    ) -> list[RunPie]:
        rates = lr or (0.1,) * teachers
        records = [
            record(
                "teacher", None, None, seed, teacher=f"big {seed}", config={"seed": seed, "lr": rates[seed]}
            )
            for seed in range(teachers)
        ]
        records = [entry | {"id": f"t{entry['seed']}"} for entry in records]
        records += [
            record("student", "small", "kd", 0, teacher=f"big {seed}", id=f"s{seed}")
            | ({"files": {"student.safetensors": {"sha256": "same"}}} if same_weights else {})
            for seed in range(teachers)
        ]
        path = write_records(*records)
        labels = np.array([0, 1, 0, 1])
        for entry in records if stored else []:
            predicted = labels if entry["role"] == "teacher" else np.array([0, 1, 0, 0])
            kind = "teachers" if entry["role"] == "teacher" else "cells"
            logits = np.eye(2, dtype=np.float32)[predicted]
            tensors = {"test_logits": logits, "test_labels": labels.astype(np.int32)}
            save_file(tensors, path / kind / entry["id"] / "predictions.safetensors")
        return pies_of_run(RunDirectory(list_files(path)))

    return make


def test_a_run_with_several_teachers(found: Callable[..., list[RunPie]]) -> None:
    (entry,) = found(3)
    assert entry.teachers == ("big 0", "big 1", "big 2")
    assert (entry.student, entry.method, entry.students, entry.reason) == ("small", "kd", 3, None)
    assert entry.pie is not None
    assert (entry.pie.fraction, entry.pie.teacher_on, entry.pie.student_on) == (0.25, 1, 0)


def test_a_student_that_no_teacher_changed_counts_once(found: Callable[..., list[RunPie]]) -> None:
    (entry,) = found(3, same_weights=True)
    assert (entry.pie, entry.students) == (None, 1)
    assert entry.reason == "a population needs 3 models that differ in their training: there is 1 student"


def test_one_teacher_is_no_population(found: Callable[..., list[RunPie]]) -> None:
    (entry,) = found(1)
    assert entry.pie is None
    assert entry.reason == "a population needs 3 models that differ in their training: there is 1 teacher"


def test_teachers_of_other_recipes_are_other_populations(found: Callable[..., list[RunPie]]) -> None:
    entries = found(3, lr=(0.1, 0.1, 0.2))
    assert [entry.teachers for entry in entries] == [("big 0", "big 1"), ("big 2",)]


def test_a_run_without_predictions_has_none(found: Callable[..., list[RunPie]]) -> None:
    (entry,) = found(3, stored=False)
    assert entry.reason == "the run directory holds no test predictions (outcomes.parquet)"
