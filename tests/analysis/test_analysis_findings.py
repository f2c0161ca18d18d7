"""What a run answers, where stored predictions and several teachers take part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from kdbench.analysis.findings import find
from kdbench.analysis.summary import summarise
from kdbench.analysis.teachers import against_teachers
from kdbench.store import OUTCOMES
from tests.documents import list_files

Record = Callable[..., dict[str, Any]]
Write = Callable[..., Path]


def students(
    record: Record, teacher: str, student: str, method: str, values: Sequence[float], latency: float
) -> list[dict[str, Any]]:
    return [
        record(
            "student",
            student,
            method,
            seed,
            id=f"{teacher}-{student}-{method}-{seed}",
            teacher=teacher,
            metrics={"top1": value, "latency_cpu_b1_p50_ms": latency},
        )
        for seed, value in enumerate(values)
    ]


def teacher(record: Record, label: str, value: float, latency: float = 1.0, seed: int = 0) -> dict[str, Any]:
    metrics = {"top1": value, "latency_cpu_b1_p50_ms": latency}
    return record("teacher", None, None, seed, id=f"{label}-{seed}", teacher=label, metrics=metrics)


def test_a_student_is_tested_against_the_figure_of_its_teacher(record: Record, write_records: Write) -> None:
    rows = {("a", "kd"): (0.90, 0.91, 0.92), ("b", "kd"): (0.80, 0.85, 0.87), ("a", "scratch"): (0.95, 0.96)}
    cells = [cell for (s, m), values in rows.items() for cell in students(record, "big", s, m, values, 1.0)]
    found = against_teachers(summarise(write_records(teacher(record, "big", 0.93), *cells)))
    tests = {
        (f.student, f.method): stats.ttest_1samp(np.array(rows[f.student, f.method]) - 0.93, 0) for f in found
    }
    corrected = multipletests([test.pvalue for test in tests.values()], method="holm")[1]
    for comparison, test, p in zip(found, tests.values(), corrected, strict=True):
        low, high = test.confidence_interval(0.95)
        assert (comparison.low, comparison.high) == pytest.approx((low, high))
        assert comparison.p_holm == pytest.approx(p)
        assert comparison.difference == pytest.approx((low + high) / 2)


def test_a_teacher_of_several_trainings_is_not_taken_for_a_constant(
    record: Record, write_records: Write
) -> None:
    teachers = [teacher(record, "big", value, seed=seed) for seed, value in enumerate((0.92, 0.94))]
    cells = students(record, "big", "a", "kd", (0.90, 0.91, 0.92), 1.0)
    (found,) = against_teachers(summarise(write_records(*teachers, *cells)))
    assert found.difference == pytest.approx(-0.02)
    assert (found.p, found.reason) == (None, "big was trained with 2 seeds of its own")


def test_costs_are_compared_among_the_students_of_one_teacher(record: Record, write_records: Write) -> None:
    records = [
        *(teacher(record, label, 0.95) for label in ("big", "other")),
        *students(record, "big", "a", "kd", (0.90, 0.91, 0.92), 0.5),
        *students(record, "big", "b", "kd", (0.80, 0.81, 0.82), 0.4),
        # timed in another session: a cheaper row, but not of these
        *students(record, "other", "b", "kd", (0.85, 0.86, 0.87), 0.1),
    ]
    found = find(summarise(write_records(*records)))
    assert found.judged == 3
    assert found.best is not None and found.near is not None and found.cheapest is not None
    assert (found.best.row.teacher, found.best.row.student) == ("big", "a")
    assert found.near.row == found.cheapest.row
    assert (found.near.row.teacher, found.near.row.student) == ("big", "b")
    assert found.best.savings == {"latency_cpu_b1_p50_ms": pytest.approx(2.0)}


def test_stored_predictions_tell_what_a_test_set_of_this_size_could_not(
    record: Record, write_records: Write
) -> None:
    # The cheaper model errs on all that the best one errs on, and on 6 of 100 examples more: McNemar's exact
    # p is 2/2^6 = 0.031, though accuracies of 90 and 84 % of two unlike models are within chance.
    records = [
        teacher(record, "big", 0.95),
        *students(record, "big", "a", "kd", (0.90,), 0.5),
        *students(record, "big", "b", "kd", (0.84,), 0.4),
    ]
    run = write_records(*records)
    assert find(summarise(run)).alike
    for id, errors in (("big-a-kd-0", 10), ("big-b-kd-0", 16)):
        labels = np.zeros(100, dtype=np.int64)
        predicted = (np.arange(100) < errors).astype(np.int64)
        frame = pd.DataFrame({"label": labels, "predicted": predicted})
        frame.to_parquet(run / "cells" / id / OUTCOMES)
    found = find(summarise(list_files(run)))
    assert found.nearest is not None and found.nearest.examples.p == pytest.approx(2 / 2**6)
    assert not found.alike
    assert found.near is not None and found.near.row.student == "b"
