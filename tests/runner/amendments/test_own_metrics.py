"""Metrics of a user's own in a finished suite: scored from what was saved, anew where their code changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch

from kdbench.errors import UserError
from kdbench.exporting import trained_student
from kdbench.runner import run
from kdbench.store import RunDirectory, check
from kdbench.suite import Suite
from tests.runner.observed import Listening

Load = Callable[..., Suite]
METRIC = """
from kdbench.metrics import metric


@metric("third", title="Class 2", family="head", direction="none", range="[0, 1]", source="this test")
def third(predictions):
    return float((predictions == 2).double().mean())
"""
QUICK = (
    "methods=[scratch, kd, {name: prune_magnitude, students: [teacher]}]",
    "students=[mlp_16, teacher]",
    "seeds=[0]",
    "recipe.epochs=1",
    "teachers.0.recipe.epochs=1",
)
NAMED = "metrics=['third.py:third']"


def test_a_metric_that_is_added_later_is_scored_without_training(small_suite: Load, tmp_path: Path) -> None:
    directory = RunDirectory(run(small_suite(*QUICK), tmp_path / "run").path)
    stamps = {path: path.stat().st_mtime_ns for path in directory.path.rglob("*.safetensors")}
    file = tmp_path / "third.py"
    for text, label in ((METRIC, 2), (METRIC.replace("== 2", "== 5"), 5)):
        file.write_text(text)
        heard = Listening()
        assert run(small_suite(*QUICK, NAMED), directory.path, progress=heard).failed == 0
        assert [stage for stage, _ in heard.stages] == ["scoring own metrics"]
        records = [*directory.records()]
        assert len(records) > 3
        for record in records:
            saved = safetensors.torch.load_file(directory.folder(record.id) / "predictions.safetensors")
            share = (saved["test_logits"].argmax(1) == label).double().mean().item()
            assert record.metrics["third"] == pytest.approx(share)
    heard = Listening()
    run(small_suite(*QUICK, NAMED), directory.path, progress=heard)
    assert heard.stages == []
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps and check(directory.path) == []


def test_a_metric_takes_no_name_of_a_column(small_suite: Load, tmp_path: Path) -> None:
    (tmp_path / "third.py").write_text(METRIC.replace('"third"', '"macs"'))
    with pytest.raises(UserError, match=r"^two columns are called 'macs': [^\n]*$"):
        run(small_suite(*QUICK, NAMED), tmp_path / "run")


LOSS = """
import torch.nn.functional as F
from kdbench.methods import Distiller, method


@method("plain", title="own", source="this test", year=2026)
class Plain(Distiller):
    needs = frozenset({"logits"})

    def losses(self, student, teacher, batch):
        return {"ce": F.cross_entropy(student.logits, batch.target)}
"""


def test_what_a_method_only_trained_is_exported_after_its_file_was_edited(
    small_suite: Load, tmp_path: Path
) -> None:
    (tmp_path / "loss.py").write_text(LOSS)
    suite = small_suite(*QUICK, "methods=[{name: 'loss.py:Plain', label: plain, students: [mlp_16]}]")
    outcome = run(suite, tmp_path / "run")
    assert (outcome.ok, outcome.failed) == (1, 0)
    directory = RunDirectory(outcome.path)
    (record,) = (record for record in directory.records() if record.role == "student")
    (tmp_path / "loss.py").write_text(f"{LOSS}# a remark\n")
    stored = safetensors.torch.load_file(directory.folder(record.id) / "weights.safetensors")
    assert trained_student(directory, record.id).model.state_dict().keys() == stored.keys()
