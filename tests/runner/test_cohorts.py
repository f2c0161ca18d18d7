"""Cohorts being made: those that do not fit into memory at once, and files that are edited between them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from kdbench.errors import UserError
from kdbench.plan import make_plan
from kdbench.progress import Progress
from kdbench.runner import run
from kdbench.runner.workshop import Setting, Workshop
from kdbench.store import RunDirectory
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


ENDING = """
from torch import nn


class Net(nn.Sequential):
    def __init__(self, num_classes, mode):
        super().__init__(nn.Flatten(), nn.Linear(64, num_classes))
        self.mode = mode

    def forward(self, x):
        # A trial is of two examples; what comes after it has more.
        if len(x) > 2 and self.training is (self.mode == "train"):
            raise SystemExit(0)
        return super().forward(x)


def make(num_classes, mode):
    return Net(num_classes, mode)
"""


def test_students_that_end_the_process_after_their_trial_fail_and_no_other(
    small_suite: Load, tmp_path: Path
) -> None:
    (tmp_path / "net.py").write_text(ENDING)
    own = [f"{{name: '{tmp_path}/net.py:make', args: {{mode: {mode}}}}}" for mode in ("train", "eval")]
    suite = small_suite(f"students=[{', '.join(own)}, mlp_16]", "methods=[scratch]", "seeds=[0]")
    assert run(suite, tmp_path / "run", teacher_store=tmp_path).ok == 1
    records = {record.id: record for record in RunDirectory(tmp_path / "run").records()}
    built, validated, well = (records[cell.id].reason for cell in make_plan(suite).cells)
    where = r"ProcessEnded: SystemExit\(0\) in net\.py, line \d+; code of a suite must return"
    assert re.fullmatch(f"could not be built: {where}", str(built))
    assert re.fullmatch(rf"{where} \(net\.py:\d+\)", str(validated))
    assert well is None
