"""A teacher that is not made of numbers teaches nobody, in no run, however it came to be."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from kdbench.errors import UserError
from kdbench.inputs import InputSpec
from kdbench.models import build_model
from kdbench.plan import make_plan
from kdbench.runner import run
from kdbench.runner.finiteness import broken_logits, broken_weight, refuse_broken
from kdbench.runner.predictions import Predictions, write_files
from kdbench.store import Record, RunDirectory
from kdbench.store.files import sha256_of
from kdbench.suite import Suite
from kdbench.targets import find_target

Load = Callable[..., Suite]
TINY = ("students=[mlp_16]", "methods=[scratch]", "seeds=[0]", "recipe.epochs=1")


def test_the_first_tensor_that_is_not_finite_is_named() -> None:
    weights = {"a": torch.ones(3), "steps": torch.tensor(3), "b": torch.tensor([1.0, torch.inf, torch.nan])}
    assert broken_weight(weights) == "weight 'b' is not finite (NaN; 2 of 3 values)"
    assert broken_weight({"a": weights["a"], "steps": weights["steps"]}) is None
    whole, broken = torch.zeros(2, 3), torch.tensor([[0.0, -torch.inf, 0.0]])
    assert broken_logits({"": Predictions(whole, whole, test_best=broken)}) is None
    assert broken_logits({"": Predictions(whole, broken)}) == (
        "train_logits are not finite (infinite; 1 of 3 values)"
    )
    assert broken_logits({"": Predictions(whole, broken)}, ("test",)) is None
    assert broken_logits({"": Predictions(whole), "coarse": Predictions(whole, validation=broken)}) == (
        "coarse.validation_logits are not finite (infinite; 1 of 3 values)"
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (torch.nan, "checkpoint {}: weight 'head.weight' is not finite (NaN; "),
        (3e38, "test_logits are not finite (infinite; "),
    ],
)
def test_a_checkpoint_is_refused_in_every_run(
    small_suite: Load, tmp_path: Path, value: float, expected: str
) -> None:
    weights = build_model("cnn_4", inputs=InputSpec.image((1, 8, 8)), num_classes=10).state_dict()
    weights["head.weight"].fill_(value)
    weights["stages.2.4.bias"].fill_(2)  # so that what the head multiplies is not small
    torch.save(weights, tmp_path / "weights.pt")
    suite = small_suite(f"teachers=[{{name: cnn_4, checkpoint: {tmp_path / 'weights.pt'}}}]", *TINY)
    for _ in range(2):
        with pytest.raises(UserError) as caught:
            run(suite, tmp_path / "run")
        text = str(caught.value)
        expected = expected.format(tmp_path / "weights.pt")
        assert text.startswith(f"teacher 'cnn_4': {expected}") and text.endswith("; mend the checkpoint.")
    assert not list(tmp_path.rglob("record.json"))


def test_one_that_an_earlier_version_took_for_good_is_refused_too(small_suite: Load, tmp_path: Path) -> None:
    options = (*TINY, "teachers=[cnn_2]", "controls={independent_teacher: 1}")
    suite = small_suite(*options)
    outcome = run(suite, tmp_path / "run")
    directory = RunDirectory.open(outcome.path)
    (teacher,) = directory.manifest()["teachers"]
    (cell,) = directory.manifest()["cells"]
    for id in (teacher, directory.record(cell).amendments["independent"]):
        file = directory.folder(id) / "predictions.safetensors"
        record = directory.record(id)
        whole = file.read_bytes()
        tensors = safetensors.torch.load(whole)
        tensors["validation_logits"][0, 0] = torch.nan
        safetensors.torch.save_file(tensors, file)
        # As an earlier version wrote it: recorded, and not finite.
        written = {"sha256": sha256_of(file), "bytes": file.stat().st_size}
        directory.amend(record, {file.name: written})
        for again in (suite, small_suite(*options, "seeds=[0, 1]")):
            with pytest.raises(UserError, match=r"validation_logits are not finite .*; lower its lr, or set"):
                run(again, tmp_path / "run")
        file.write_bytes(whole)
        directory.amend(record)
    assert run(suite, tmp_path / "run").ok == 1


def test_files_of_a_teacher_that_are_damaged_are_refused_and_those_that_are_gone_passed_over(
    small_suite: Load, tmp_path: Path
) -> None:
    (teacher,) = make_plan(small_suite(*TINY)).teachers
    directory, heads = RunDirectory(tmp_path), ("", "coarse")
    logits = Predictions(torch.zeros(2, 3))
    files = write_files(
        directory.folder(teacher.id),
        last={"w": torch.ones(2)},
        best=None,
        predictions=dict.fromkeys(heads, logits),
        labels={head: {"test": torch.zeros(2, dtype=torch.long)} for head in heads},
        target=find_target("single_label"),
        history=(),
    )
    directory.write(Record(teacher.id, "teacher", "ok", teacher.label, 0, files=files))
    refuse_broken(teacher, directory, heads)
    stored = [directory.folder(teacher.id) / name for name in files if name.endswith(".safetensors")]
    assert len(stored) == 3
    for file in stored:
        whole = file.read_bytes()
        file.write_bytes(whole[:20])
        with pytest.raises(UserError, match=f"{file.name}: changed since it was recorded"):
            refuse_broken(teacher, directory, heads)
        file.unlink()
        refuse_broken(teacher, directory, heads)
        file.write_bytes(whole)


NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.head = nn.Linear(64, num_classes)

    def forward(self, x):
        y = self.head(x.flatten(1))
        return y if self.training or len(y) < 100 else y / torch.zeros_like(y)
"""


def test_a_student_is_held_to_the_same_check(small_suite: Load, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    net = f"students=[{{name: '{tmp_path}/net.py:Net', label: net}}]"
    outcome = run(small_suite(*TINY, net), tmp_path / "run")
    (cell,) = (record for record in RunDirectory(outcome.path).records() if record.student)
    assert (outcome.failed, cell.status, cell.metrics) == (1, "failed", {})
    assert cell.reason is not None and cell.reason.endswith("after epoch 1")
    assert re.match(r"diverged: test_logits are not finite \((NaN|infinite); 2,000 of 2,000", cell.reason)
    with pytest.raises(UserError, match=r"teacher 'net': .*logits are not finite .*; lower its lr, or set"):
        run(small_suite(*TINY, net.replace("students", "teachers")), tmp_path / "taught")
