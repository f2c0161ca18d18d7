"""Cohorts being made: those that do not fit into memory at once, and files that are edited between them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from kdbench.errors import UserError
from kdbench.plan import make_plan
from kdbench.progress import Progress
from kdbench.runner import run
from kdbench.runner.workshop import Setting, Workshop
from kdbench.suite import Suite
from tests.runner.observed import Listening, results, write_net

Load = Callable[..., Suite]


def test_a_cohort_over_the_memory_budget_is_split_and_nothing_changes(
    small_suite: Load, tmp_path: Path
) -> None:
    suite = small_suite("seeds=[0]")
    run(suite, tmp_path / "together", teacher_store=tmp_path)
    heard = Listening()
    run(suite, tmp_path / "split", teacher_store=tmp_path, memory_budget=1, progress=heard)
    assert [total for label, total in heard.stages if label == "1 students"] == [2] * 4
    assert sum("do not fit into the memory budget" in note for note in heard.notes) == 3
    assert results(tmp_path / "split") == results(tmp_path / "together")


def test_a_file_that_is_edited_between_cohorts_ends_the_run_and_nothing_of_it_is_recorded(
    small_suite: Load, tmp_path: Path
) -> None:
    plan = make_plan(small_suite(write_net(tmp_path), "methods=[scratch]", "teachers.0.recipe.epochs=1"))
    setting = Setting(tmp_path / "run", tmp_path, None, torch.device("cpu"), 10**9)
    workshop = Workshop(plan, setting, Progress())
    workshop.make(plan.cohorts[0])
    (tmp_path / "width.py").write_text("WIDTH = 5\n")
    with pytest.raises(UserError, match=r"net\.py:build, .* was edited .* Run the same command again"):
        workshop.make(plan.cohorts[1])
    assert [cell.id for cell in workshop.waiting()] == [plan.cells[1].id]
    assert not {cell.id for cell in plan.cells} & {cell.id for cell in make_plan(plan.suite).cells}
