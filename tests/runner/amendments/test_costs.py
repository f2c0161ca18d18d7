"""Costs in records: what is known now takes the place of what was said to be missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kdbench.errors import UserError
from kdbench.plan import make_plan
from kdbench.progress import Progress
from kdbench.runner import run
from kdbench.runner.amendments.measurement import measured
from kdbench.store import RunDirectory
from kdbench.suite import Suite
from tests.runner.observed import write_net

Load = Callable[..., Suite]


def test_a_number_that_was_missing_has_no_reason_any_more(small_suite: Load, tmp_path: Path) -> None:
    suite = small_suite("students=[mlp_16]", "methods=[scratch]", "seeds=[0]", "recipe.epochs=1")
    directory = RunDirectory(run(suite, tmp_path / "run").path)
    _, record = directory.records()
    metrics = record.metrics | {"theoretical_speedup": None, "params_nonzero": 7}
    reasons = record.reasons | {"theoretical_speedup": "the multiply-adds of the reference are a lower bound"}
    directory.amend(record, metrics=metrics, reasons=reasons, amendments={"costs": "of another version"})
    run(suite, directory.path)
    again = directory.record(record.id)
    assert again.metrics["theoretical_speedup"] == record.metrics["theoretical_speedup"] > 1
    assert again.metrics["params_nonzero"] == 7, "it is of the weights, not of the architecture"
    assert "theoretical_speedup" not in again.reasons
    assert again.amendments == record.amendments


def test_what_training_takes_is_three_passes_of_the_student_and_one_of_its_teacher(
    small_suite: Load, tmp_path: Path
) -> None:
    suite = small_suite("students=[mlp_16]", "seeds=[0]")
    teacher, *students = RunDirectory(run(suite, tmp_path / "run").path).records()
    examples, epochs = 240, 2
    alone, taught = (record.metrics["train_macs"] for record in students)
    macs = students[0].metrics["macs"]
    assert alone == epochs * examples * 3 * macs
    assert taught == alone + epochs * examples * teacher.metrics["macs"]
    assert teacher.metrics["train_macs"] == 4 * examples * 3 * teacher.metrics["macs"]


def test_costs_of_a_file_that_is_edited_while_it_is_measured_are_not_recorded(
    small_suite: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(small_suite(write_net(tmp_path)))
    monkeypatch.setattr(
        "kdbench.runner.amendments.measurement.measure",
        lambda *jobs, **more: (tmp_path / "width.py").write_text("WIDTH = 5"),
    )
    with pytest.raises(UserError, match="was edited while the run was going on"):
        measured(plan, plan.teachers[0], RunDirectory(tmp_path / "run"), Progress())
    assert not (tmp_path / "run").exists()
