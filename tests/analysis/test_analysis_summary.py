from __future__ import annotations

import pytest

from kdbench.analysis.summary import summarise
from kdbench.errors import UserError
from kdbench.store import write_recorded
from tests.documents import edit

LATENCY = "latency_cpu_b1_p50_ms"


@pytest.fixture
def student(record):
    def make(method, seed, top1, **fields):
        return record("student", "s", method, seed, **({"metrics": {"top1": top1, LATENCY: 0.5}} | fields))

    return make


def test_rows_are_teachers_then_students_over_their_seeds(write_records, record, student):
    summary = summarise(
        write_records(
            record("teacher", None, None, 7, metrics={"top1": 0.9}),
            *(student("kd", seed, 0.7 + seed / 10) for seed in (2, 0, 1)),
            student("scratch", 0, 0.6),
        )
    )
    assert [(row.role, row.model, row.method, row.seeds) for row in summary.rows] == [
        ("teacher", "big", None, (7,)),
        ("student", "s", "kd", (0, 1, 2)),
        ("student", "s", "scratch", (0,)),
    ]
    kd = summary.students[0].metrics["top1"]
    assert (kd.n, kd.mean, kd.sd) == (3, pytest.approx(0.8), pytest.approx(0.1))
    assert summary.methods == ("scratch", "kd")
    assert summary.seed_counts == (1, 3)


def test_a_cost_that_was_copied_to_every_seed_has_no_interval(write_records, student):
    summary = summarise(write_records(*(student("kd", seed, 0.7) for seed in (0, 1))))
    cost = summary.students[0].metrics[LATENCY]
    assert (cost.mean, cost.low, cost.high) == (0.5, None, None)
    assert "measured once per model" in cost.reason


def test_failed_cells_are_counted_and_listed(write_records, student):
    lost = student("kd", 1, 0.0, status="failed", reason="diverged", metrics={})
    refused = student("at", 0, 0.0, status="skipped", reason="needs stages", metrics={})
    summary = summarise(write_records(student("kd", 0, 0.7), lost, refused))
    kd, at = summary.students
    assert (kd.seeds, kd.failed, kd.metrics["top1"].n) == ((0,), 1, 1)
    assert (at.seeds, at.failed, at.metrics["top1"].mean) == ((), 1, None)
    assert at.metrics["top1"].reason == "no finished seed: needs stages"
    assert [(f.status, f.method, f.seed, f.reason) for f in summary.failures] == [
        ("failed", "kd", 1, "diverged"),
        ("skipped", "at", 0, "needs stages"),
    ]
    assert [row.method for row in summary.measured] == ["kd"]


def test_nulls_keep_their_reasons_and_do_not_count(write_records, student):
    silent = student("kd", 1, None, reasons={"top1": "no labels"})
    summary = summarise(write_records(student("kd", 0, 0.7), silent))
    (row,) = summary.students
    assert (row.metrics["top1"].n, row.metrics["top1"].mean) == (1, 0.7)
    assert summary.footnotes["top1"] == ("no labels",)
    assert summary.footnotes["nll"] == ("not recorded",)


def test_recall_is_averaged_by_class_without_the_unknown(write_records, student):
    tables = [{"recall_per_class": [0.5, None, 1.0]}, {"recall_per_class": [0.7, None, None]}, {}]
    records = [student("kd", seed, 0.7, tables=table) for seed, table in enumerate(tables)]
    (row,) = summarise(write_records(*records)).students
    assert row.recall == (pytest.approx(0.6), None, 1.0)


def test_cells_without_a_record_are_counted(write_records, student):
    assert summarise(write_records(student("kd", 0, 0.7), not_run=3)).unfinished == 3


def test_the_frame_has_every_metric_with_its_interval(write_records, student):
    frame = summarise(write_records(student("kd", 0, 0.6), student("kd", 1, 0.8))).frame()
    (row,) = frame.to_dict("records")
    assert row["n"] == row["top1_n"] == 2
    assert row["top1"] == pytest.approx(0.7)
    assert row["top1_high"] - row["top1"] == pytest.approx(row["top1"] - row["top1_low"])
    assert row["nll_n"] == 0


def test_histories_are_read_from_the_records_that_have_them(write_records, record, student):
    path = write_records(record("teacher", None, None, 0), student("kd", 0, 0.7), student("kd", 1, 0.8))
    folder = path / "cells" / "student-s-kd-1"
    edit(
        folder / "record.json",
        files=write_recorded(folder / "history.csv", "epoch,train_top1\n1,0.5\n2,0.6\n"),
    )
    histories = summarise(path).histories
    assert histories[["student", "method", "seed", "epoch"]].values.tolist() == [
        ["s", "kd", 1, 1],
        ["s", "kd", 1, 2],
    ]


def test_parts_hold_one_teacher_each(write_records, record, student):
    other = {"teacher": "huge"}
    summary = summarise(
        write_records(
            record("teacher", None, None, 0),
            record("teacher", None, None, 1, **other),
            student("kd", 0, 0.7),
            student("kd", 1, 0.8, **other),
        )
    )
    parts = dict(summary.by_teacher())
    assert list(parts) == ["big", "huge"]
    assert [row.seeds for row in parts["huge"].rows] == [(1,), (1,)]


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="not a run directory"):
        summarise(tmp_path)


def test_rows_of_one_student_follow_each_other(write_records, record):
    cells = [record("student", name, method, 0) for method in ("scratch", "kd") for name in ("b", "a")]
    rows = summarise(write_records(*cells)).students
    assert [(row.student, row.method) for row in rows] == [
        ("b", "scratch"),
        ("b", "kd"),
        ("a", "scratch"),
        ("a", "kd"),
    ]
