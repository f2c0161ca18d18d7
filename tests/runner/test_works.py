"""Works and executors: whoever carries them out, the results are the same."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from kdbench.errors import UserError
from kdbench.plan import make_plan
from kdbench.progress import Progress
from kdbench.runner import run
from kdbench.runner.works import EXECUTORS, Site, works_of
from kdbench.runner.workshop import Setting, Workshop
from kdbench.store import RunDirectory
from kdbench.suite import Suite
from tests.runner.observed import results

Load = Callable[..., Suite]
FEW = ("students=[mlp_16]", "methods=[scratch, {chain: [kd, prune_magnitude, kd], label: chain}]")
BACKWARDS = """
from kdbench.runner.works import executor


@executor("backwards", title="the last work first")
class Backwards:
    def __init__(self, jobs):
        self.jobs = jobs

    def run(self, works, tell):
        for work in reversed(works):
            work.carry_out(tell)
"""


def test_every_executor_gives_the_same_results(
    small_suite: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # not to wait for what else measures on this machine
    (tmp_path / "own.py").write_text(BACKWARDS)
    suite = small_suite(*FEW, "threads=1")
    found = {}
    for name in (*EXECUTORS.all(), f"{tmp_path}/own.py:Backwards"):
        outcome = run(suite, tmp_path / str(len(found)), teacher_store=tmp_path, executor=name, jobs=2)
        assert outcome.ok == 4, name
        found[name] = results(outcome.path)
    assert {"inline", "processes"} <= found.keys()
    assert all(values == found["inline"] for values in found.values())


def test_works_name_nodes_and_can_be_sent_anywhere(small_suite: Load, tmp_path: Path) -> None:
    plan = make_plan(small_suite(*FEW))
    setting = Setting(tmp_path / "run", tmp_path / "run", None, torch.device("cpu"), 10**9)
    works = works_of(plan, Site.of(Workshop(plan, setting, Progress())).shared_by(2, 2))
    assert [work.label for work in works] == ["cnn_4, seed 0", "cnn_4, seed 1"]
    named = [id for work in works for id in work.nodes]
    students = [node for node in plan.nodes.values() if node.role == "student"]
    # A link that does not train is made on the way to what begins from it.
    assert sorted(named) == sorted(node.id for node in students if node.recipe)
    # Two trainings follow one another in the chain: two cohorts of two epochs.
    assert [work.epochs for work in works] == [4, 4]
    assert pickle.loads(pickle.dumps(works)) == works


def test_what_is_finished_is_no_work(small_suite: Load, tmp_path: Path) -> None:
    suite = small_suite(*FEW, "seeds=[0]")
    run(suite, tmp_path / "run")
    plan = make_plan(small_suite(*FEW))
    setting = Setting(tmp_path / "run", tmp_path / "run", None, torch.device("cpu"), 10**9)
    (work,) = works_of(plan, Site.of(Workshop(plan, setting, Progress())))
    done = {record.id for record in RunDirectory(tmp_path / "run").records()}
    assert work.label == "cnn_4, seed 1" and not done & set(work.nodes)


def test_an_unknown_executor_is_one_line(small_suite: Load, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown executor 'proceses'\. Did you mean 'processes'\?"):
        run(small_suite(*FEW), tmp_path / "run", executor="proceses")
    assert not (tmp_path / "run").exists()
